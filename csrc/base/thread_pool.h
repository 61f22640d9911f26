// thread_pool: a fixed number of threads and two queues: urgent tasks run before all others, each queue in order of arrival.
// With no threads a task runs in submit(), in the calling thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace vidload {

class ThreadPool {
 public:
  // A task is told which thread runs it, in [0, max(num_threads, 1)), and must not throw.
  using Task = std::function<void(int thread)>;

  // Throws std::runtime_error, with no thread left behind, when one cannot be started.
  explicit ThreadPool(int num_threads);
  // Waits for the tasks that are running; those still queued are dropped. Not to be called where is_usable() is false: it would wait
  // for threads that do not exist.
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  void submit(std::vector<Task> tasks, bool is_urgent = false);
  int num_threads() const { return num_threads_; }
  // False in a child that was forked after the threads started.
  bool is_usable() const;

 private:
  void stop();
  void work(int thread);

  const int num_threads_;
  const int process_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> urgent_, normal_;
  bool is_stopping_ = false;
  std::mutex inline_mutex_;  // without threads, callers take turns
  std::vector<std::thread> threads_;
};

}  // namespace vidload
