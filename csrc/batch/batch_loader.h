// batch_loader: whole batches of samples in, pixels in their final places out.
// A Batch is created with its sources and at once finds their indexes (in the pool's threads); the caller then samples frames and boxes
// from what the indexes say and hands them to decode(), which plans, decodes and transforms each sample as one task, straight into the
// caller's memory. A file that cannot be decoded fails its own sample alone; what the machine fails to do fails the batch.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "batch/cuda_target.h"
#include "batch/frame_name.h"
#include "batch/index_cache.h"
#include "batch/load_stats.h"
#include "cuda/device_transform.h"
#include "cuda/write_order.h"
#include "decode/decoder.h"
#include "decode/jpeg_decoder.h"
#include "transform/transform.h"

namespace vidload {

// A video file, or a folder of extracted frames.
struct SampleSource {
  std::string path;
  StoredIndex stored;                           // of a video, optional
  int stream = -1;                              // of a video: number within the container, -1 for FFmpeg's choice
  std::shared_ptr<const FrameName> frame_name;  // of a folder; null for a video
  int64_t first_number = 1, num_frames = 0;
};

struct SampleInfo {
  int64_t num_frames = 0, width = 0, height = 0;  // as displayed
  double average_fps = 0;
  std::shared_ptr<const PacketIndex> index;  // null for a folder of frames
};

// What decode() writes, and where. Arrays are copied; `out` must stay valid until the batch is done or destroyed.
struct DecodeRequest {
  struct View {
    int clip;
    CropBox box;
  };
  struct Sample {
    std::vector<int64_t> frames;  // clip by clip, clip_len each
    std::vector<View> views;
  };
  TransformSpec spec;
  int clip_len = 1;
  std::vector<Sample> samples;
  uint8_t* out = nullptr;
  // Strides in elements of spec.dtype.
  ptrdiff_t sample_stride = 0, view_stride = 0, frame_stride = 0, channel_stride = 0, row_stride = 0, column_stride = 0;
};

// The threads and what each keeps for reuse: open decoders, resampling tables, scratch memory.
class LoaderPool {
 public:
  // With a `target`, `out` of every request is memory of that device. Throws CudaError if it cannot be used.
  explicit LoaderPool(int num_threads, std::optional<CudaTarget> target = std::nullopt);
  ~LoaderPool();

  struct Worker;
  ThreadPool& threads() { return *threads_; }
  Worker& worker(int thread) { return *workers_[size_t(thread)]; }
  void add_stats(const LoadStats& stats);
  LoadStats stats();

  // The GPU, or null; and the stream on which the memory of batches is handed over and used.
  const CudaDevice* device() const { return device_; }
  const CudaTarget& target() const { return target_; }
  void set_consumer(CUstream stream) { consumer_.store(stream); }
  CUstream consumer() const { return consumer_.load(); }

  // What ends work in the calling thread, where there are no others; null for nothing. Must outlive the pool.
  void set_caller_cancel(const Cancel* cancel) { caller_cancel_ = cancel; }
  const Cancel* caller_cancel() const { return caller_cancel_; }

 private:
  CudaTarget target_;
  const CudaDevice* device_ = nullptr;
  std::atomic<CUstream> consumer_{nullptr};
  const Cancel* caller_cancel_ = nullptr;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::mutex stats_mutex_;
  LoadStats stats_;
  std::unique_ptr<ThreadPool> threads_;  // last: its threads use all of the above
};

class Batch {
 public:
  Batch(std::shared_ptr<LoaderPool> pool, std::vector<SampleSource> sources);
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
  // Valid after wait() gave true. A sample that failed has an error, a VideoError, and must not be asked for in decode().
  const std::vector<SampleInfo>& infos() const;
  const std::vector<std::exception_ptr>& errors() const;
  // Samples without frames in the request are left out. Throws Error for a malformed request.
  void decode(DecodeRequest request);

 private:
  bool wait_for_tasks(double timeout_seconds);
  void hand_over();
  struct Shared;  // lives until the last task ended
  std::shared_ptr<LoaderPool> pool_;
  std::shared_ptr<Shared> shared_;
};

}  // namespace vidload
