#include "batch/index_cache.h"

#include <pthread.h>

#include "base/error.h"
#include "batch/file_attempt.h"
#include "decode/open_video.h"

namespace vidload {

IndexCache& IndexCache::instance() {
  // Never destroyed: threads of a pool may still use it while the process exits.
  static IndexCache* cache = [] {
    static IndexCache* created = new IndexCache;
    // A fork copies the mutex as it is; holding it meanwhile gives the child an unlocked one.
    pthread_atfork([] { created->mutex_.lock(); }, [] { created->mutex_.unlock(); }, [] { created->mutex_.unlock(); });
    return created;
  }();
  return *cache;
}

static std::shared_ptr<const PacketIndex> scan(const std::string& path, int stream, bool must_decode, const Cancel* cancel) {
  std::shared_ptr<const PacketIndex> index;
  attempt_file(path, [&] { index = std::make_shared<PacketIndex>(index_video(*open_file(path), stream, must_decode, cancel)); });
  return index;
}

std::shared_ptr<const PacketIndex> IndexCache::get(const std::string& path, int stream, const StoredIndex& stored, const Cancel* cancel,
                                                   bool* was_scanned) {
  *was_scanned = false;
  const Key key{path, stream};
  const FileStamp stamp = file_stamp(path);
  if (auto known = find(key, stamp)) return known;
  std::shared_ptr<const PacketIndex> index;
  if (stored.data && stored.stamp == stamp) {
    index = std::make_shared<PacketIndex>(PacketIndex::from_bytes(stored.data, size_t(stored.size)));
    if (stream >= 0 && index->stream.stream_number != stream) index.reset();
  }
  if (!index) {
    *was_scanned = true;
    index = scan(path, stream, false, cancel);
  }
  keep(key, index->stamp, index);
  return index;
}

std::shared_ptr<const PacketIndex> IndexCache::get_decoded(const std::string& path, int stream, const Cancel* cancel) {
  const Key key{path, stream};
  const FileStamp stamp = file_stamp(path);
  if (auto known = find(key, stamp); known && !known->is_regular) return known;  // another sample met the same contradiction
  const std::shared_ptr<const PacketIndex> index = scan(path, stream, true, cancel);
  keep(key, index->stamp, index);  // not `stamp`: the file may have been replaced before it was opened
  return index;
}

std::shared_ptr<const PacketIndex> IndexCache::find(const Key& key, const FileStamp& stamp) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end() || !(found->second->stamp == stamp)) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->index;
}

void IndexCache::keep(const Key& key, const FileStamp& stamp, const std::shared_ptr<const PacketIndex>& index) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = by_key_.find(key);
  if (found != by_key_.end()) {  // outdated, or another thread was faster
    bytes_ -= found->second->bytes;
    entries_.erase(found->second);
    by_key_.erase(found);
  }
  entries_.push_front({key, stamp, index, index->bytes_held()});
  by_key_[key] = entries_.begin();
  bytes_ += entries_.front().bytes;
  while (bytes_ > kDefaultCapacity && entries_.size() > 1) {
    bytes_ -= entries_.back().bytes;
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
}

void IndexCache::clear() {
  std::lock_guard<std::mutex> lock(mutex_);
  by_key_.clear();
  entries_.clear();
  bytes_ = 0;
}

int64_t IndexCache::bytes_held() {
  std::lock_guard<std::mutex> lock(mutex_);
  return bytes_;
}

}  // namespace vidload
