#include "source/remote_source.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>

#include "base/error.h"

namespace vidload {
namespace {

constexpr int64_t kMaxGap = 64 << 10;        // between ranges that are asked for in one request
constexpr int64_t kMaxRequest = 4 << 20;     // larger ones are parted, and asked for together
constexpr int64_t kLeastRequest = 64 << 10;  // where it is not known what will be read next
constexpr int64_t kMaxHeld = 64 << 20;       // of one source, on their way or here

std::atomic<RemoteFetcher*> the_fetcher{nullptr};

RemoteFetcher& fetcher(const SourceId& id) {
  RemoteFetcher* const found = the_fetcher.load();
  if (!found) throw std::runtime_error(id.name + ": nothing that reads URLs is registered; please report this");
  return *found;
}

// A request on its way, given up with the object.
struct Request {
  std::shared_ptr<RemoteReply> reply = std::make_shared<RemoteReply>();
  double seconds = 0;

  Request() = default;
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  ~Request() { reply->abandon(); }
};

class RemoteSource final : public ByteSource {
 public:
  RemoteSource(SourceId id, const FileStamp& stamp, const Cancel* cancel)
      : id_(std::move(id)),
        stamp_(stamp),
        end_(id_.is_part() ? std::min(id_.offset + id_.size, stamp.size) : stamp.size),
        cancel_(cancel) {}

  int64_t read(int64_t offset, uint8_t* out, int64_t size) const override {
    std::lock_guard<std::mutex> lock(mutex_);
    const int64_t end = std::min(end_, offset + size);
    int64_t at = offset;
    while (at < end) {
      auto piece = piece_at(at);
      if (piece == pieces_.end()) {
        const bool is_next = at >= last_end_ && at <= last_end_ + kMaxGap &&
                             last_end_ > 0;  // read from front to back: ever more at a time, and the next on its way
        ahead_ = is_next ? std::min(2 * ahead_, kMaxRequest) : kLeastRequest;
        const int64_t until = std::min({std::max(end, at + ahead_), at + kMaxHeld / 2, end_});
        start({at, until});
        last_end_ = is_next ? std::min(until + ahead_, end_) : until;
        start({until, last_end_});
        piece = piece_at(at);
      }
      try {
        piece->second.request->reply->wait(cancel_, id_.name, piece->second.request->seconds);
      } catch (...) {
        erase(piece);  // another attempt is another request
        throw;
      }
      const std::vector<uint8_t>& bytes = piece->second.request->reply->bytes();
      const int64_t count = std::min(end, piece->second.end) - at;
      std::memcpy(out + (at - offset), bytes.data() + (at - piece->first), size_t(count));
      at += count;
    }
    return std::max<int64_t>(end - offset, 0);
  }

  void prefetch(std::vector<ByteRange> ranges) const override {
    std::lock_guard<std::mutex> lock(mutex_);
    std::sort(ranges.begin(), ranges.end(), [](const ByteRange& a, const ByteRange& b) { return a.begin < b.begin; });
    int64_t room = kMaxHeld / 2;
    for (size_t i = 0; i < ranges.size() && room > 0;) {
      ByteRange merged = ranges[i++];
      for (; i < ranges.size() && ranges[i].begin <= merged.end + kMaxGap; ++i) merged.end = std::max(merged.end, ranges[i].end);
      merged.end = std::min(merged.end, merged.begin + room);
      room -= merged.end - merged.begin;
      start(merged);
    }
  }

  int64_t size() const override { return stamp_.size; }
  const std::string& name() const override { return id_.name; }
  FileStamp stamp() const override { return stamp_; }
  void check_unchanged() const override {
    if (remote_stamp(id_, cancel_) == stamp_) return;
    throw VideoError(VideoErrorKind::unreadable, id_.name, -1,
                     "the object is not the one that was indexed, or changed while it was read; load it again when it is complete");
  }

 private:
  struct Piece {
    int64_t end = 0;
    int64_t number = 0;  // the smallest is the oldest
    std::unique_ptr<Request> request;
  };
  using Pieces = std::map<int64_t, Piece>;  // by their first byte; none overlap

  Pieces::iterator piece_at(int64_t at) const {
    auto piece = pieces_.upper_bound(at);
    if (piece == pieces_.begin()) return pieces_.end();
    --piece;
    return at < piece->second.end ? piece : pieces_.end();
  }

  void erase(Pieces::iterator piece) const {
    held_ -= piece->second.end - piece->first;
    pieces_.erase(piece);
  }

  // Asks for what is missing of a range.
  void start(ByteRange range) const {
    range.begin = std::max<int64_t>(range.begin, 0);
    range.end = std::min(range.end, end_);
    for (int64_t at = range.begin; at < range.end;) {
      if (const auto held = piece_at(at); held != pieces_.end()) {
        at = held->second.end;
        continue;
      }
      const auto next = pieces_.upper_bound(at);
      int64_t end = std::min(range.end, at + kMaxRequest);
      if (next != pieces_.end()) end = std::min(end, next->first);
      Piece piece;
      piece.end = end;
      piece.number = num_started_++;
      piece.request = std::make_unique<Request>();
      piece.request->seconds = fetcher(id_).fetch(id_, stamp_, {at, end}, piece.request->reply);
      pieces_[at] = std::move(piece);
      held_ += end - at;
      at = end;
    }
    while (held_ > kMaxHeld) {
      erase(
          std::min_element(pieces_.begin(), pieces_.end(), [](const auto& a, const auto& b) { return a.second.number < b.second.number; }));
    }
  }

  const SourceId id_;
  const FileStamp stamp_;
  const int64_t end_;  // of what is wanted: of the part, where it is one
  const Cancel* const cancel_;
  mutable std::mutex mutex_;
  mutable Pieces pieces_;
  mutable int64_t held_ = 0, num_started_ = 0;
  mutable int64_t last_end_ = -1, ahead_ = kLeastRequest;
};

}  // namespace

void RemoteReply::finish() {
  has_ended_ = true;
  is_done_.notify_all();
}

void RemoteReply::succeed(std::vector<uint8_t> bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  bytes_ = std::move(bytes);
  finish();
}

void RemoteReply::succeed(const FileStamp& stamp) {
  std::lock_guard<std::mutex> lock(mutex_);
  stamp_ = stamp;
  finish();
}

void RemoteReply::fail(std::exception_ptr reason) {
  std::lock_guard<std::mutex> lock(mutex_);
  failure_ = std::move(reason);
  finish();
}

void RemoteReply::wait(const Cancel* cancel, const std::string& name, double seconds) {
  constexpr auto kLook = std::chrono::milliseconds(50);
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  std::unique_lock<std::mutex> lock(mutex_);
  while (!is_done_.wait_for(lock, kLook, [this] { return has_ended_; })) {
    lock.unlock();  // a cancel may take the GIL, which who answers may hold
    if (cancel && cancel->is_set()) throw VideoError(VideoErrorKind::cancelled, name, -1, "cancelled");
    if (std::chrono::steady_clock::now() > end) throw MachineError(ETIMEDOUT, name, "no answer from its server");
    lock.lock();
  }
  if (failure_) std::rethrow_exception(failure_);
}

void set_remote_fetcher(RemoteFetcher* fetcher) { the_fetcher.store(fetcher); }

bool is_remote(const std::string& file) {
  const size_t scheme = file.find("://");
  return scheme != std::string::npos && scheme > 0 && file.find('/') > scheme;
}

FileStamp remote_stamp(const SourceId& id, const Cancel* cancel) {
  Request request;
  request.seconds = fetcher(id).look_up(id, request.reply);
  request.reply->wait(cancel, id.name, request.seconds);
  const FileStamp stamp = request.reply->stamp();
  if (stamp.size == 0) throw VideoError(VideoErrorKind::unreadable, id.name, -1, "the file is empty");
  return stamp;
}

std::unique_ptr<ByteSource> open_remote(const SourceId& id, const Cancel* cancel, const FileStamp* known) {
  return std::make_unique<RemoteSource>(id, known ? *known : remote_stamp(id, cancel), cancel);
}

}  // namespace vidload
