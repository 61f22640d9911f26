// index_cache: the packet indexes of the files used last, shared by all threads of the process and bounded in bytes. A file whose size
// or modification time changed is scanned again.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

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

  // From the cache, else from `stored` when the file is still the same, else by scanning, which sets *was_scanned. `stream`: as of
  // index_video; `stored` is believed only for the stream it was made of. Throws as index_video.
  std::shared_ptr<const PacketIndex> get(const std::string& path, int stream, const StoredIndex& stored, const Cancel* cancel,
                                         bool* was_scanned);
  // Indexes a file by decoding it, after the index it had was seen to be wrong, and keeps that.
  std::shared_ptr<const PacketIndex> get_decoded(const std::string& path, int stream, const Cancel* cancel);

  void clear();
  int64_t bytes_held();

 private:
  using Key = std::pair<std::string, int>;  // path, stream
  struct Entry {
    Key key;
    FileStamp stamp;
    std::shared_ptr<const PacketIndex> index;
    int64_t bytes;
  };
  std::shared_ptr<const PacketIndex> find(const Key& key, const FileStamp& stamp);
  void keep(const Key& key, const FileStamp& stamp, const std::shared_ptr<const PacketIndex>& index);

  std::mutex mutex_;
  std::list<Entry> entries_;  // the one used last comes first
  std::map<Key, std::list<Entry>::iterator> by_key_;
  int64_t bytes_ = 0;
};

}  // namespace vidload
