// loader_pool: the threads that load samples, and what each keeps for reuse.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "base/thread_pool.h"
#include "batch/choose_decoder.h"
#include "batch/load_stats.h"
#include "batch/worker.h"
#include "device/device.h"

namespace vidload {

class LoaderPool {
 public:
  // With a `device`, `out` of every request is its memory. 0 threads: the caller's does the work.
  explicit LoaderPool(int num_threads, const CudaDevice* device = nullptr, const DecodePolicy& policy = {});
  ~LoaderPool();

  ThreadPool& threads() { return *threads_; }
  Worker& worker(int thread) { return *workers_[size_t(thread)]; }
  void add_stats(const LoadStats& stats);
  LoadStats stats();

  // The GPU, or null; and the stream on which the memory of batches is handed over and used.
  const CudaDevice* device() const { return device_; }
  void set_consumer(CUstream stream) { consumer_.store(stream); }
  CUstream consumer() const { return consumer_.load(); }

  // What ends work in the calling thread, where there are no others; null for nothing. Must outlive the pool.
  void set_caller_cancel(const Cancel* cancel) { caller_cancel_ = cancel; }
  const Cancel* caller_cancel() const { return caller_cancel_; }

 private:
  const CudaDevice* const device_;
  std::atomic<CUstream> consumer_{nullptr};
  const Cancel* caller_cancel_ = nullptr;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::mutex stats_mutex_;
  LoadStats stats_;
  std::unique_ptr<ThreadPool> threads_;  // last: its threads use all of the above
};

}  // namespace vidload
