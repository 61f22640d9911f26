#include "batch/loader_pool.h"

#include <algorithm>

namespace vidload {

LoaderPool::LoaderPool(int num_threads, const CudaDevice* device, const DecodePolicy& policy) : device_(device) {
  for (int i = 0; i < std::max(num_threads, 1); ++i) workers_.push_back(std::make_unique<Worker>(policy));
  threads_ = std::make_unique<ThreadPool>(num_threads);
}

LoaderPool::~LoaderPool() {
  if (threads_->is_usable()) {
    threads_.reset();  // first: its threads use everything else
    return;
  }
  // A forked child: the threads are gone, and what they were using may be half changed. All of it is leaked.
  threads_.release();
  new std::vector<std::unique_ptr<Worker>>(std::move(workers_));
}

void LoaderPool::add_stats(const LoadStats& stats) {
  std::lock_guard<std::mutex> lock(stats_mutex_);
  stats_.add(stats);
}

LoadStats LoaderPool::stats() {
  std::lock_guard<std::mutex> lock(stats_mutex_);
  return stats_;
}

}  // namespace vidload
