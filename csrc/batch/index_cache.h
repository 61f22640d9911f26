// index_cache: the packet indexes of the files used last, shared by all threads of the process and bounded in bytes. A file whose size
// or modification time changed is scanned again.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "index/packet_index.h"

namespace vidload {

// An entry of a dataset's index file: where its bytes are mapped, and the file they were made from.
struct StoredIndex {
  const uint8_t* data = nullptr;
  int64_t size = 0;
  FileStamp stamp;
};

class IndexCache {
 public:
  static constexpr int64_t kDefaultCapacity = 256 << 20;

  // The process's cache.
  static IndexCache& instance();

  // From the cache, else from `stored` when the file is still the same, else by scanning, which sets *was_scanned.
  // Throws VideoError.
  std::shared_ptr<const PacketIndex> get(const std::string& path, const StoredIndex& stored, bool* was_scanned);

  void clear();
  int64_t bytes_held();

 private:
  struct Entry {
    std::string path;
    FileStamp stamp;
    std::shared_ptr<const PacketIndex> index;
    int64_t bytes;
  };
  std::mutex mutex_;
  std::list<Entry> entries_;  // the one used last comes first
  std::unordered_map<std::string, std::list<Entry>::iterator> by_path_;
  int64_t bytes_ = 0;
};

}  // namespace vidload
