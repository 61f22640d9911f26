#include "base/thread_pool.h"

#include <unistd.h>

#include <utility>

namespace vidload {

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads), process_(getpid()) {
  for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this, i] { work(i); });
}

bool ThreadPool::is_usable() const { return num_threads_ == 0 || process_ == getpid(); }

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::submit(Task task, bool is_urgent) {
  if (num_threads_ == 0) {
    std::lock_guard<std::mutex> lock(inline_mutex_);
    task(0);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    (is_urgent ? urgent_ : normal_).push_back(std::move(task));
  }
  wake_.notify_one();
}

void ThreadPool::work(int thread) {
  while (true) {
    Task task;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return is_stopping_ || !urgent_.empty() || !normal_.empty(); });
      if (is_stopping_) return;
      auto& queue = urgent_.empty() ? normal_ : urgent_;
      task = std::move(queue.front());
      queue.pop_front();
    }
    task(thread);
  }
}

}  // namespace vidload
