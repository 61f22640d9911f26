#include "batch/index_cache.h"

#include <pthread.h>

#include "base/error.h"
#include "batch/file_attempt.h"
#include "decode/open_video.h"
#include "source/remote_source.h"

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

// Null where the entry cannot be used.
static std::shared_ptr<const PacketIndex> read_stored(const StoredIndex& stored, const FileStamp& stamp) {
  try {
    if (stored.size < 0 || stored.offset < 0 || stored.size > stored.file->size() - stored.offset) return nullptr;
    std::vector<uint8_t> bytes(size_t(stored.size));
    const int64_t count = stored.file->read(stored.offset, bytes.data(), stored.size);
    auto index = std::make_shared<PacketIndex>(PacketIndex::from_bytes(bytes.data(), size_t(count)));
    return index->stamp == stamp ? index : nullptr;  // else another file's entry stands in its place
  } catch (const Error&) {  // among them the VideoError of an index file that is cut short; not what the machine fails to do
    return nullptr;
  }
}

// The index carries the stamp of the file that was opened. One that was replaced meanwhile is scanned again. `before`: its stamp now.
static std::shared_ptr<const PacketIndex> scan(const SourceId& id, int stream, IndexDepth depth, const Cancel* cancel, FileStamp before) {
  constexpr int kMaxAttempts = 3;
  for (int i = 1;; ++i) {
    std::shared_ptr<const PacketIndex> index;
    try {
      attempt_file(id.name,
                   [&] { index = std::make_shared<PacketIndex>(index_video(*open_source(id, cancel, &before), stream, depth, cancel)); });
    } catch (const VideoError&) {
      const FileStamp now = stamp_of(id, cancel);
      if (i == kMaxAttempts || now == before) throw;
      before = now;
      continue;
    }
    if (is_remote(id.file)) return index;  // index_video asked for the stamp at its end
    before = stamp_of(id, cancel);
    if (index->stamp == before) return index;
    if (i == kMaxAttempts) {
      throw VideoError(VideoErrorKind::unreadable, id.name, -1, "the file changes while it is read; load it again when it is complete");
    }
  }
}

std::shared_ptr<const PacketIndex> IndexCache::get(const SourceId& id, int stream, const StoredIndex& stored, bool is_whole,
                                                   const Cancel* cancel, IndexOrigin* origin, const FileStamp* known) {
  *origin = {};
  const Key key{id, stream};
  const FileStamp stamp = known ? *known : stamp_of(id, cancel);
  std::shared_ptr<const PacketIndex> index = find(key, &stamp);
  if (index && !(is_whole && index->is_provisional)) {
    check_limits(*index, id.name);
    return index;
  }
  index.reset();
  if (stored.file && stored.stamp == stamp) {
    index = read_stored(stored, stamp);
    origin->is_stored_refused = !index;
    if (index) check_limits(*index, id.name);
    if (index && stream >= 0 && index->stream.stream_number != stream) index.reset();
  }
  if (!index) {
    origin->is_scanned = true;
    index = scan(id, stream, is_whole ? IndexDepth::packets : IndexDepth::tables, cancel, stamp);
  }
  keep(key, index->stamp, index);
  return index;
}

std::shared_ptr<const PacketIndex> IndexCache::get_unasked(const SourceId& id, int stream, const StoredIndex& stored) {
  const Key key{id, stream};
  std::shared_ptr<const PacketIndex> index = find(key, id.listed.size >= 0 ? &id.listed : nullptr);
  if (!index && stored.file) {
    index = read_stored(stored, stored.stamp);
    if (index && stream >= 0 && index->stream.stream_number != stream) index.reset();
    if (index) keep(key, index->stamp, index);
  }
  if (index) check_limits(*index, id.name);
  return index;
}

std::shared_ptr<const PacketIndex> IndexCache::get_better(const SourceId& id, int stream, const PacketIndex& wrong, const Cancel* cancel) {
  const Key key{id, stream};
  const FileStamp stamp = stamp_of(id, cancel);
  const bool is_of_another = !(wrong.stamp == stamp);
  const auto is_better = [&](const PacketIndex& known) {
    return is_of_another || !known.is_regular || (wrong.is_provisional && !known.is_provisional);
  };
  if (auto known = find(key, &stamp); known && is_better(*known)) return known;  // another sample met the same contradiction
  const IndexDepth depth = is_of_another ? IndexDepth::tables : wrong.is_provisional ? IndexDepth::packets : IndexDepth::decoded;
  const auto index = scan(id, stream, depth, cancel, stamp);
  keep(key, index->stamp, index);  // not `stamp`: the file may have been replaced before it was opened
  return index;
}

std::shared_ptr<const PacketIndex> IndexCache::find(const Key& key, const FileStamp* stamp) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end() || (stamp && !(found->second->stamp == *stamp))) return nullptr;
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
