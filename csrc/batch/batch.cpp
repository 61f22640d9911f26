#include "batch/batch.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <numeric>

#include "base/error.h"
#include "batch/file_attempt.h"
#include "batch/sample_cancel.h"

namespace vidload {

struct Batch::Shared {
  LoaderPool* pool = nullptr;  // the Batch keeps it: a task that held the last reference would make the pool join its own thread
  std::vector<std::unique_ptr<const Sample>> samples;
  std::vector<SampleInfo> infos;
  std::vector<std::exception_ptr> errors;  // pointers: keeping an error must not need memory
  DecodeRequest request;
  Draw draw_sample;

  CancelFlag cancelled;
  std::mutex mutex;
  std::condition_variable done;
  size_t num_pending = 0;         // tasks submitted and not ended
  std::exception_ptr failure;     // the first that is not about a file; ends the batch
  bool has_begun = false;         // to find what is known of samples
  bool is_drawn = false;          // by draw_sample, as soon as a sample is known
  std::vector<uint8_t> is_known;  // per sample, where find_info has ended well

  std::unique_ptr<WriteOrder> order;  // where batches are a GPU's, once decode() was called
  bool is_handed_over = false;

  // Tasks, each of one step or two.
  using Task = void (Shared::*)(size_t sample, int thread);
  void find(size_t sample, int thread);
  void load_requested(size_t sample, int thread) { run(sample, thread, &Shared::load); }
  void load_drawn(size_t sample, int thread) { run(sample, thread, &Shared::draw_and_load); }

  using Step = void (Shared::*)(size_t sample, Worker& worker, LoadStats& stats);
  void find_info(size_t sample, Worker& worker, LoadStats& stats);
  void load(size_t sample, Worker& worker, LoadStats& stats);
  void draw_and_load(size_t sample, Worker& worker, LoadStats& stats);
  void run(size_t sample, int thread, Step step);
  void give_up(std::exception_ptr reason);

  std::vector<size_t> all() const;
  static void submit(const std::shared_ptr<Shared>& shared, const std::vector<size_t>& samples, Task task, bool is_urgent);
};

std::vector<size_t> Batch::Shared::all() const {
  std::vector<size_t> result(samples.size());
  std::iota(result.begin(), result.end(), size_t{0});
  return result;
}

void Batch::Shared::submit(const std::shared_ptr<Shared>& shared, const std::vector<size_t>& samples, Task task, bool is_urgent) {
  // A task dropped from the queue of a pool that goes away must count as ended too, hence the guard in place of a call at the end.
  struct Ended {
    explicit Ended(std::shared_ptr<Shared> owner) : shared(std::move(owner)) {
      std::lock_guard<std::mutex> lock(shared->mutex);
      ++shared->num_pending;
    }
    Ended(const Ended&) = delete;
    Ended& operator=(const Ended&) = delete;
    std::shared_ptr<Shared> shared;
    ~Ended() {
      // Notified under the lock: the waiter may free `shared` as soon as it can see the count.
      std::lock_guard<std::mutex> lock(shared->mutex);
      if (--shared->num_pending == 0) shared->done.notify_all();
    }
  };
  std::vector<ThreadPool::Task> tasks;
  tasks.reserve(samples.size());
  for (const size_t sample : samples) {
    auto ended = std::make_shared<Ended>(shared);
    tasks.emplace_back([ended = std::move(ended), sample, task](int thread) { (ended->shared.get()->*task)(sample, thread); });
  }
  shared->pool->threads().submit(std::move(tasks), is_urgent);
}

void Batch::Shared::run(size_t sample, int thread, Step step) {
  if (cancelled.is_set()) return;
  LoadStats stats;
  const std::string& path = samples[sample]->path();
  const SampleCancel cancel(cancelled, pool->caller_cancel(), path);
  Worker& worker = pool->worker(thread);
  worker.cancel = &cancel;
  try {
    attempt_file(path, [&] {
      try {
        (this->*step)(sample, worker, stats);
      } catch (const VideoError&) {
        throw;
      } catch (const Error& error) {  // e.g. a picture that the transform cannot have
        throw VideoError(VideoErrorKind::unsupported, path, -1, error.what());
      }
    });
  } catch (const VideoError&) {
    errors[sample] = std::current_exception();
    ++stats.num_failed;
  } catch (...) {
    give_up(std::current_exception());
  }
  pool->add_stats(stats);
}

void Batch::Shared::find(size_t sample, int thread) {
  run(sample, thread, &Shared::find_info);
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (errors[sample] || failure) return;
    is_known[sample] = 1;
    if (!is_drawn) return;
  }
  load_drawn(sample, thread);
}

void Batch::Shared::give_up(std::exception_ptr reason) {
  cancelled.set();  // the other samples would fail the same way, perhaps after a long wait each
  std::lock_guard<std::mutex> lock(mutex);
  if (!failure) failure = std::move(reason);
  done.notify_all();
}

void Batch::Shared::find_info(size_t sample, Worker& worker, LoadStats& stats) {
  const auto start = std::chrono::steady_clock::now();
  infos[sample] = samples[sample]->find_info(worker, stats);
  stats.index_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void Batch::Shared::load(size_t sample, Worker& worker, LoadStats& stats) {
  ++stats.num_samples;
  SampleInfo& info = infos[sample];
  const SampleWriter writer(request[sample], info.width, info.height, order.get(), worker);
  const auto load_it = [&] { samples[sample]->load(request[sample].drawn.frames, info, worker, writer, stats); };
  const CudaDevice* device = pool->device();
  if (!device) return load_it();
  const CurrentContext current(*device);
  if (!worker.device_transform) worker.device_transform = make_device_transform(*device);
  const CUstream stream = worker.device_transform->stream();
  try {
    order->before_writes(stream);
    load_it();
    order->after_writes(stream);
  } catch (const VideoError&) {
    order->after_writes(stream);  // part of a clip may be on its way
    throw;
  } catch (...) {
    worker.device_transform.reset();  // waits for its stream; what state it was in nobody knows
    throw;
  }
}

void Batch::Shared::draw_and_load(size_t sample, Worker& worker, LoadStats& stats) {
  try {
    request[sample].drawn = draw_sample(sample, infos[sample]);
  } catch (const std::bad_alloc&) {
    throw;  // attempt_file knows what to do
  } catch (...) {
    return give_up(std::current_exception());  // the rules do not fit the picture: that is the caller's to mend
  }
  load(sample, worker, stats);
}

Batch::Batch(std::shared_ptr<LoaderPool> pool, std::vector<std::unique_ptr<const Sample>> samples, bool waits_for_draw)
    : pool_(std::move(pool)), shared_(std::make_shared<Shared>()) {
  shared_->pool = pool_.get();
  shared_->infos.resize(samples.size());
  shared_->errors.resize(samples.size());
  shared_->is_known.resize(samples.size());
  shared_->samples = std::move(samples);
  if (waits_for_draw) return;
  shared_->has_begun = true;
  try {
    Shared::submit(shared_, shared_->all(), &Shared::find, true);
  } catch (...) {  // no memory; those submitted use the pool
    cancel();
    wait_for_tasks(-1);
    throw;
  }
}

Batch::~Batch() {
  if (!pool_->threads().is_usable()) {
    new std::shared_ptr<Shared>(shared_);  // a forked child: its tasks will never end, and its mutex may be locked for good
    return;
  }
  cancel();
  wait_for_tasks(-1);
  try {
    hand_over();
  } catch (const CudaError&) {  // the process is ending, and the driver has gone before
  }
}

bool Batch::end(double timeout_seconds) {
  if (!pool_->threads().is_usable()) return true;  // ~Batch knows what to do in a forked child
  cancel();
  return wait_for_tasks(timeout_seconds);
}

void Batch::cancel() { shared_->cancelled.set(); }

bool Batch::wait_for_tasks(double timeout_seconds) {
  std::unique_lock<std::mutex> lock(shared_->mutex);
  const auto is_done = [this] { return shared_->num_pending == 0; };
  if (timeout_seconds >= 0) return shared_->done.wait_for(lock, std::chrono::duration<double>(timeout_seconds), is_done);
  shared_->done.wait(lock, is_done);
  return true;
}

bool Batch::wait(double timeout_seconds) {
  {
    std::unique_lock<std::mutex> lock(shared_->mutex);
    const auto is_over = [this] { return shared_->num_pending == 0 || shared_->failure; };
    if (timeout_seconds < 0) {
      shared_->done.wait(lock, is_over);
    } else if (!shared_->done.wait_for(lock, std::chrono::duration<double>(timeout_seconds), is_over)) {
      return false;
    }
    if (shared_->failure) std::rethrow_exception(shared_->failure);
  }
  hand_over();
  return true;
}

// Makes the consumer's stream wait for the writes that are queued.
void Batch::hand_over() {
  if (!shared_->order || shared_->is_handed_over) return;
  shared_->is_handed_over = true;
  shared_->order->finish(pool_->consumer());
}

void Batch::check_begun() const {
  if (!shared_->has_begun) throw Error("this batch waits for draw(): nothing is known of its samples yet");
}

const std::vector<SampleInfo>& Batch::infos() const {
  check_begun();
  return shared_->infos;
}

const std::vector<std::exception_ptr>& Batch::errors() const { return shared_->errors; }

void Batch::decode(DecodeRequest request) {
  check_begun();
  if (request.size() != shared_->samples.size()) throw Error("decode: one request per sample is needed");
  std::vector<size_t> wanted;
  const TransformSpec* checked = nullptr;
  for (size_t i = 0; i < request.size(); ++i) {
    const SampleRequest& sample = request[i];
    const std::vector<int64_t>& frames = sample.drawn.frames;
    if (frames.empty()) continue;
    if (shared_->errors[i]) throw Error("decode: sample " + std::to_string(i) + " has failed already");
    if (sample.clip_len < 1 || frames.size() % size_t(sample.clip_len) != 0) {
      throw Error("decode: the number of frames of a sample must be a multiple of clip_len");
    }
    const int num_clips = int(frames.size()) / sample.clip_len;
    for (const DrawnView& view : sample.drawn.views) {
      if (view.clip < 0 || view.clip >= num_clips) throw Error("decode: a view names a clip that is not there");
    }
    if (!checked || !(*checked == sample.spec)) Resampler check(sample.spec);  // a bad spec is the caller's error, not every sample's
    checked = &sample.spec;
    wanted.push_back(i);
  }
  begin(std::move(request));
  Shared::submit(shared_, wanted, &Shared::load_requested, false);
}

void Batch::draw(DecodeRequest request, Draw draw) {
  if (request.size() != shared_->samples.size()) throw Error("draw: one request per sample is needed");
  if (!request.empty()) Resampler check(request[0].spec);  // as in decode(); they all have the same
  shared_->draw_sample = std::move(draw);
  begin(std::move(request));
  if (!shared_->has_begun) {
    shared_->has_begun = shared_->is_drawn = true;
    return Shared::submit(shared_, shared_->all(), &Shared::find, false);
  }
  std::vector<size_t> known;
  known.reserve(shared_->samples.size());
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->is_drawn = true;
    for (size_t i = 0; i < shared_->is_known.size(); ++i) {
      if (shared_->is_known[i]) known.push_back(i);
    }
  }
  Shared::submit(shared_, known, &Shared::load_drawn, false);
}

void Batch::begin(DecodeRequest request) {
  if (pool_->device()) shared_->order = std::make_unique<WriteOrder>(*pool_->device(), pool_->consumer());
  shared_->request = std::move(request);
}

const DecodeRequest& Batch::request() const { return shared_->request; }

}  // namespace vidload
