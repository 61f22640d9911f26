// index_cache: the packet indexes of the videos used last, shared by all threads of the process and bounded in bytes. A file whose stamp
// changed is scanned again.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "index/packet_index.h"

namespace vidload {

// An entry of a dataset's index file: where its bytes are, and the video they were made from. They are read when needed, not mapped: a
// mapped file that is cut short, or whose disk fails, ends the process.
struct StoredIndex {
  std::shared_ptr<const ByteSource> file;  // null: there is none
  int64_t offset = 0, size = 0;
  FileStamp stamp;
};

struct IndexOrigin {
  bool is_scanned = false;         // the video was read
  bool is_stored_refused = false;  // although there was an entry for it, which is damaged or of another file or version
};

class IndexCache {
 public:
  static constexpr int64_t kDefaultCapacity = 256 << 20;

  // The process's cache.
  static IndexCache& instance();

  // From the cache, else from `stored` when the file is still the same, else from the file's tables or by scanning. `stream`: as of
  // index_video; `stored` is believed only for the stream it was made of. With `is_whole` never a provisional one. What it gives is of one
  // state of the file, that of its stamp. `known`: its stamp now. Throws as index_video.
  std::shared_ptr<const PacketIndex> get(const SourceId& id, int stream, const StoredIndex& stored, bool is_whole, const Cancel* cancel,
                                         IndexOrigin* origin, const FileStamp* known = nullptr);
  // The one from the cache, else from `stored`, without a look at the file: who reads it must compare its stamp afterwards. Null where
  // there is none. Throws VideoError (kind limit).
  std::shared_ptr<const PacketIndex> get_unasked(const SourceId& id, int stream, const StoredIndex& stored);
  // A better one, after `wrong` was seen to contradict its file, and keeps it: anew if the file is another than that was made of, of all
  // packets if that was provisional, else of all frames.
  std::shared_ptr<const PacketIndex> get_better(const SourceId& id, int stream, const PacketIndex& wrong, const Cancel* cancel);

  void clear();
  int64_t bytes_held();

 private:
  using Key = std::pair<SourceId, int>;  // and the stream
  struct Entry {
    Key key;
    FileStamp stamp;
    std::shared_ptr<const PacketIndex> index;
    int64_t bytes;
  };
  std::shared_ptr<const PacketIndex> find(const Key& key, const FileStamp* stamp);  // null: of any
  void keep(const Key& key, const FileStamp& stamp, const std::shared_ptr<const PacketIndex>& index);

  std::mutex mutex_;
  std::list<Entry> entries_;  // the one used last comes first
  std::map<Key, std::list<Entry>::iterator> by_key_;
  int64_t bytes_ = 0;
};

}  // namespace vidload
