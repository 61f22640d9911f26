// remote_source: an object on a network, read in ranges: what will be needed is asked for together and early, neighbors in one request.
// How a request is made is a RemoteFetcher's business, which the bindings register; no wait outlasts a cancel or the fetcher's deadline.
#pragma once

#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "source/byte_source.h"

namespace vidload {

// The answer to one request. It is given once, by any thread; whoever asked may have given up by then.
class RemoteReply {
 public:
  void succeed(std::vector<uint8_t> bytes);
  void succeed(const FileStamp& stamp);
  void fail(std::exception_ptr reason);
  // False where nobody waits for it any more.
  bool is_wanted() const { return !is_abandoned_.is_set(); }

  // Throws what failed, VideoError (kind cancelled), or MachineError where no answer comes within `seconds`.
  void wait(const Cancel* cancel, const std::string& name, double seconds);
  void abandon() { is_abandoned_.set(); }
  const std::vector<uint8_t>& bytes() const { return bytes_; }  // after wait()
  const FileStamp& stamp() const { return stamp_; }

 private:
  void finish();
  CancelFlag is_abandoned_;
  std::mutex mutex_;
  std::condition_variable is_done_;
  bool has_ended_ = false;
  std::exception_ptr failure_;
  std::vector<uint8_t> bytes_;
  FileStamp stamp_;
};

// Both start a request and return how many seconds an answer may take. Safe to call from any thread.
class RemoteFetcher {
 public:
  virtual ~RemoteFetcher() = default;
  // The object as it is now; the stamp's mtime_ns is a number that differs where its content does (made of its ETag).
  virtual double look_up(const SourceId& id, const std::shared_ptr<RemoteReply>& reply) = 0;
  // All bytes of a range that is within the object. `stamp`: of the object that is read.
  virtual double fetch(const SourceId& id, const FileStamp& stamp, ByteRange range, const std::shared_ptr<RemoteReply>& reply) = 0;
};

// Must live as long as the process.
void set_remote_fetcher(RemoteFetcher* fetcher);

// Whether it is a URL ("s3://bucket/name"), not a path.
bool is_remote(const std::string& file);

// As stamp_of and open_source, for a URL; the whole of the object, up to the end of the part where `id` is one.
FileStamp remote_stamp(const SourceId& id, const Cancel* cancel);
std::unique_ptr<ByteSource> open_remote(const SourceId& id, const Cancel* cancel, const FileStamp* known);

}  // namespace vidload
