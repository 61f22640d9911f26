#include "batch/index_cache.h"

#include <pthread.h>

#include "base/error.h"
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

std::shared_ptr<const PacketIndex> IndexCache::get(const std::string& path, const StoredIndex& stored, bool* was_scanned) {
  *was_scanned = false;
  const FileStamp stamp = file_stamp(path);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = by_path_.find(path);
    if (found != by_path_.end() && found->second->stamp == stamp) {
      entries_.splice(entries_.begin(), entries_, found->second);
      return found->second->index;
    }
  }
  std::shared_ptr<const PacketIndex> index;
  if (stored.data && stored.stamp == stamp) {
    index = std::make_shared<PacketIndex>(PacketIndex::from_bytes(stored.data, size_t(stored.size)));
  } else {
    *was_scanned = true;
    index = std::make_shared<PacketIndex>(index_video(*open_file(path)));
  }
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = by_path_.find(path);
  if (found != by_path_.end()) {  // outdated, or another thread was faster
    bytes_ -= found->second->bytes;
    entries_.erase(found->second);
    by_path_.erase(found);
  }
  entries_.push_front({path, stamp, index, index->bytes_held()});
  by_path_[path] = entries_.begin();
  bytes_ += entries_.front().bytes;
  while (bytes_ > kDefaultCapacity && entries_.size() > 1) {
    bytes_ -= entries_.back().bytes;
    by_path_.erase(entries_.back().path);
    entries_.pop_back();
  }
  return index;
}

void IndexCache::clear() {
  std::lock_guard<std::mutex> lock(mutex_);
  by_path_.clear();
  entries_.clear();
  bytes_ = 0;
}

int64_t IndexCache::bytes_held() {
  std::lock_guard<std::mutex> lock(mutex_);
  return bytes_;
}

}  // namespace vidload
