// batch: whole batches of samples in, pixels in their final places out.
// A Batch is created with its samples and at once finds what is known of each (in the pool's threads); the caller then chooses frames and
// boxes from that and hands them to decode(), which loads each sample as one task, straight into the caller's memory. Where frames and
// boxes are chosen by rules, draw() has the threads do it, and a batch that waits for it is one task per sample in all: found, drawn and
// loaded. A file that cannot be decoded fails its own sample alone; what the machine fails to do fails the batch.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <vector>

#include "batch/decode_request.h"
#include "batch/loader_pool.h"
#include "batch/sample.h"

namespace vidload {

class Batch {
 public:
  // waits_for_draw: nothing starts before draw().
  Batch(std::shared_ptr<LoaderPool> pool, std::vector<std::unique_ptr<const Sample>> samples, bool waits_for_draw = false);
  // Cancels what has not started, and waits for what has.
  ~Batch();
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  // False when the time is up before the tasks submitted so far (indexing, then decoding) are done. Negative: no limit. For a GPU, done
  // means queued: the pool's consumer stream has been made to wait for the rest. What no file is to blame for (no memory, a read error, a
  // lost GPU) is thrown as soon as it is known, whatever else is under way: std::bad_alloc, MachineError, CudaError, ...
  bool wait(double timeout_seconds);
  void cancel();
  // Cancels, and waits for what has started, but no longer than that: false where threads are still at work. Throws nothing.
  bool end(double timeout_seconds);
  // Valid after wait() gave true. A sample that failed has an error, a VideoError, and must not be asked for in decode(). infos() throws
  // Error where the batch still waits for draw().
  const std::vector<SampleInfo>& infos() const;
  const std::vector<std::exception_ptr>& errors() const;
  // Samples without frames in the request are left out. After wait(). Throws Error for a malformed request.
  void decode(DecodeRequest request);
  // What a sample is to show. It is called by threads of the pool; what it throws ends the batch.
  using Draw = std::function<DrawnSample(size_t sample, const SampleInfo& info)>;
  // As decode(), of what `draw` gives; the request has one spec for all samples, and nothing drawn yet. There is no need to wait() before.
  void draw(DecodeRequest request, Draw draw);
  // What was decoded of each sample; after the wait() that follows.
  const DecodeRequest& request() const;

 private:
  void begin(DecodeRequest request);
  bool wait_for_tasks(double timeout_seconds);
  void hand_over();
  void check_begun() const;
  struct Shared;  // lives until the last task ended
  std::shared_ptr<LoaderPool> pool_;
  std::shared_ptr<Shared> shared_;
};

}  // namespace vidload
