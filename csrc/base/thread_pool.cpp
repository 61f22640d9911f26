#include "base/thread_pool.h"

#include <unistd.h>

#include <algorithm>
#include <exception>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>

namespace vidload {

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads), process_(getpid()) {
  try {
    for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this, i] { work(i); });
  } catch (const std::exception& error) {  // std::system_error; those that started must be joined
    stop();
    throw std::runtime_error("cannot start thread " + std::to_string(threads_.size() + 1) + " of " + std::to_string(num_threads) + " (" +
                             error.what() + "); use fewer (num_workers), or raise the limit of threads (ulimit -u, the container's pids)");
  }
}

bool ThreadPool::is_usable() const { return num_threads_ == 0 || process_ == getpid(); }

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::submit(std::vector<Task> tasks, bool is_urgent) {
  if (num_threads_ == 0) {
    std::lock_guard<std::mutex> lock(inline_mutex_);
    for (const Task& task : tasks) task(0);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    std::deque<Task>& queue = is_urgent ? urgent_ : normal_;
    std::move(tasks.begin(), tasks.end(), std::back_inserter(queue));
  }
  for (size_t i = 0; i < std::min(tasks.size(), size_t(num_threads_)); ++i) wake_.notify_one();
}

void ThreadPool::work(int thread) {
  // The C++ runtime's block for this thread's exceptions is allocated at its first use, which should not be the report of missing memory:
  // glibc ends the process then.
  [[maybe_unused]] volatile int num_exceptions = std::uncaught_exceptions();  // volatile: a call without effect would be left out
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
