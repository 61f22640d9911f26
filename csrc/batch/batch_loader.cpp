#include "batch/batch_loader.h"

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "base/limits.h"
#include "batch/file_attempt.h"
#include "cuda/nvdec_decoder.h"
#include "decode/picture_of_frame.h"
#include "decode/pixel_convert.h"
#include "plan/decode_plan.h"

namespace vidload {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string frame_path(const SampleSource& source, int64_t frame) {
  return source.path + "/" + source.frame_name->of(source.first_number + frame);
}

// What stops work on one sample: its batch was given up, or it has used up its processor time.
class SampleCancel final : public Cancel {
 public:
  SampleCancel(const CancelFlag& batch, const Cancel* caller, const std::string& path)
      : batch_(batch), caller_(caller), path_(path), max_seconds_(video_limits().cpu_seconds) {}
  bool is_set() const override {
    if (batch_.is_set() || (caller_ && caller_->is_set())) return true;
    const Clock::time_point now = Clock::now();
    if (now < next_look_) return false;  // the thread's clock is a system call
    next_look_ = now + std::chrono::milliseconds(100);
    if (thread_seconds() - start_seconds_ <= max_seconds_) return false;
    char seconds[32];
    std::snprintf(seconds, sizeof seconds, "%g", max_seconds_);
    throw VideoError(VideoErrorKind::limit, path_, -1,
                     std::string("takes more processor time than the limit, cpu_seconds=") + seconds +
                         "; leave the file out, or raise it with vidload.set_limits");
  }

 private:
  static double thread_seconds() {
    timespec now = {};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
  }
  const CancelFlag& batch_;
  const Cancel* caller_;
  const std::string& path_;
  const double max_seconds_, start_seconds_ = thread_seconds();
  mutable Clock::time_point next_look_;
};

}  // namespace

struct LoaderPool::Worker {
  std::vector<std::unique_ptr<Decoder>> decoders;  // the one used last comes first
  std::vector<Resampler> resamplers;               // one a view, so that its tables last for the whole clip
  TransformSpec spec = {};
  JpegDecoder jpeg;
  PixelConverter converter;
  const Cancel* cancel = nullptr;          // of the sample at work
  UniqueDeviceTransform device_transform;  // where batches are a GPU's

  static constexpr size_t kMaxDecoders = 16;
  static constexpr int64_t kMaxPixels = 4 * 1920 * 1088;  // of their pictures; a decoder holds a few

  // Files of a prepared dataset that are of one size share their headers, so a decoder is opened once a thread for each size.
  Decoder& decoder(const StreamInfo& stream, const std::string& path, LoadStats& stats) {
    for (auto& open : decoders) {
      if (!open->fits(stream)) continue;
      std::rotate(decoders.begin(), decoders.begin() + (&open - decoders.data()), decoders.begin() + (&open - decoders.data()) + 1);
      return *decoders.front();
    }
    decoders.insert(decoders.begin(), std::make_unique<Decoder>(stream, path));
    ++stats.num_decoders_opened;
    int64_t num_pixels = decoders.front()->num_pixels();
    const auto is_too_much = [&](const std::unique_ptr<Decoder>& open) { return (num_pixels += open->num_pixels()) > kMaxPixels; };
    const auto first_too_many = std::find_if(decoders.begin() + 1, decoders.end(), is_too_much);
    decoders.erase(first_too_many, decoders.end());
    if (decoders.size() > kMaxDecoders) decoders.pop_back();
    return *decoders.front();
  }

  // After an error nobody knows what state a decoder is in.
  void forget_decoder() {
    if (!decoders.empty()) decoders.erase(decoders.begin());
  }

  Resampler& resampler(const TransformSpec& wanted, size_t view) {
    if (!(spec == wanted)) {
      resamplers.clear();
      spec = wanted;
    }
    while (resamplers.size() <= view) resamplers.emplace_back(wanted);
    return resamplers[view];
  }
};

LoaderPool::LoaderPool(int num_threads, std::optional<CudaTarget> target) {
  if (target) {
    target_ = *target;
    device_ = &CudaDevice::get(target_.device);
  }
  for (int i = 0; i < std::max(num_threads, 1); ++i) workers_.push_back(std::make_unique<Worker>());
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

struct Batch::Shared {
  LoaderPool* pool = nullptr;  // the Batch keeps it: a task that held the last reference would make the pool join its own thread
  std::vector<SampleSource> sources;
  std::vector<SampleInfo> infos;
  std::vector<std::exception_ptr> errors;  // pointers: keeping an error must not need memory
  DecodeRequest request;

  CancelFlag cancelled;
  std::mutex mutex;
  std::condition_variable done;
  size_t num_pending = 0;      // tasks submitted and not ended
  std::exception_ptr failure;  // the first that is not about a file; ends the batch

  std::unique_ptr<WriteOrder> order;  // where batches are a GPU's, once decode() was called
  bool is_handed_over = false;

  using Step = void (Shared::*)(size_t sample, LoaderPool::Worker& worker, LoadStats& stats);
  void find_info(size_t sample, LoaderPool::Worker& worker, LoadStats& stats);
  void load(size_t sample, LoaderPool::Worker& worker, LoadStats& stats);
  void run(size_t sample, int thread, Step step);
  void give_up(std::exception_ptr reason);
  void load_sample(size_t sample, LoaderPool::Worker& worker, LoadStats& stats);
  template <typename Visit>
  void for_each_place(size_t sample, int64_t frame, const PictureView& picture, Visit visit);
  void write(size_t sample, int64_t frame, const PictureView& picture, LoaderPool::Worker& worker, LoadStats& stats);
  void write_to_device(size_t sample, int64_t frame, const PictureView& picture, PictureMemory memory, DeviceTransform& transform,
                       LoadStats& stats);
  void decode_video(size_t sample, const PacketIndex& index, LoaderPool::Worker& worker, LoadStats& stats);
  bool load_by_nvdec(size_t sample, const PacketIndex& index, const DecodePlan& plan, PacketReader& reader, LoaderPool::Worker& worker,
                     DecodeTimes& times, LoadStats& stats);
  void load_video(size_t sample, LoaderPool::Worker& worker, LoadStats& stats);
  void load_frames(size_t sample, LoaderPool::Worker& worker, LoadStats& stats);

  static void submit(const std::shared_ptr<Shared>& shared, const std::vector<size_t>& samples, Step step, bool is_urgent);
};

void Batch::Shared::submit(const std::shared_ptr<Shared>& shared, const std::vector<size_t>& samples, Step step, bool is_urgent) {
  for (const size_t sample : samples) {
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
    auto ended = std::make_shared<Ended>(shared);
    shared->pool->threads().submit([ended = std::move(ended), sample, step](int thread) { ended->shared->run(sample, thread, step); },
                                   is_urgent);
  }
}

void Batch::Shared::run(size_t sample, int thread, Step step) {
  if (cancelled.is_set()) return;
  LoadStats stats;
  const std::string& path = sources[sample].path;
  const SampleCancel cancel(cancelled, pool->caller_cancel(), path);
  LoaderPool::Worker& worker = pool->worker(thread);
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

void Batch::Shared::give_up(std::exception_ptr reason) {
  cancelled.set();  // the other samples would fail the same way, perhaps after a long wait each
  std::lock_guard<std::mutex> lock(mutex);
  if (!failure) failure = std::move(reason);
  done.notify_all();
}

void Batch::Shared::find_info(size_t sample, LoaderPool::Worker& worker, LoadStats& stats) {
  const Clock::time_point start = Clock::now();
  const SampleSource& source = sources[sample];
  SampleInfo& info = infos[sample];
  if (!source.frame_name) {
    IndexOrigin origin;
    info.index = IndexCache::instance().get(source.path, source.stream, source.stored, worker.cancel, &origin);
    stats.num_files_scanned += origin.is_scanned;
    stats.num_entries_refused += origin.is_stored_refused;
    const StreamInfo& stream = info.index->stream;
    info.num_frames = info.index->num_frames();
    info.width = stream.width();
    info.height = stream.height();
    info.average_fps = stream.average_fps.value();
  } else {
    const JpegDecoder::Size size = worker.jpeg.read_size(frame_path(source, 0));
    info.num_frames = source.num_frames;
    info.width = size.width;
    info.height = size.height;
  }
  stats.index_seconds += seconds_since(start);
}

// Calls visit(view, box, out) for every place of the batch that wants the frame.
template <typename Visit>
void Batch::Shared::for_each_place(size_t sample, int64_t frame, const PictureView& picture, Visit visit) {
  const DecodeRequest::Sample& wanted = request.samples[sample];
  const SampleInfo& info = infos[sample];
  // Boxes are in pixels of the first picture; a stream may change its size on the way.
  const double scale_x = double(picture.width) / double(info.width), scale_y = double(picture.height) / double(info.height);
  const ptrdiff_t item = element_size(request.spec.dtype);
  for (size_t place = 0; place < wanted.frames.size(); ++place) {
    if (wanted.frames[place] != frame) continue;
    const int clip = int(place) / request.clip_len, frame_of_clip = int(place) % request.clip_len;
    for (size_t view = 0; view < wanted.views.size(); ++view) {
      if (wanted.views[view].clip != clip) continue;
      CropBox box = wanted.views[view].box;
      box.left *= scale_x, box.width *= scale_x, box.top *= scale_y, box.height *= scale_y;
      const ptrdiff_t offset =
          request.sample_stride * ptrdiff_t(sample) + request.view_stride * ptrdiff_t(view) + request.frame_stride * frame_of_clip;
      visit(view, box, OutputView{request.out + offset * item, request.channel_stride, request.row_stride, request.column_stride});
    }
  }
}

// Writes a picture that the CPU decoded to every place of the batch that wants it.
void Batch::Shared::write(size_t sample, int64_t frame, const PictureView& picture, LoaderPool::Worker& worker, LoadStats& stats) {
  if (pool->device()) return write_to_device(sample, frame, picture, PictureMemory::host, *worker.device_transform, stats);
  const Clock::time_point start = Clock::now();
  for_each_place(sample, frame, picture, [&](size_t view, const CropBox& box, const OutputView& out) {
    Resampler& resampler = worker.resampler(request.spec, view);
    resampler.set(picture, box);
    resampler.run(picture, out);
    ++stats.num_frames;
  });
  stats.transform_seconds += seconds_since(start);
}

void Batch::Shared::write_to_device(size_t sample, int64_t frame, const PictureView& picture, PictureMemory memory,
                                    DeviceTransform& transform, LoadStats& stats) {
  const Clock::time_point start = Clock::now();
  std::vector<DevicePlacement> placements;
  for_each_place(sample, frame, picture,
                 [&](size_t view, const CropBox& box, const OutputView& out) { placements.push_back({view, box, out}); });
  transform.run(request.spec, picture, memory, placements);
  stats.num_frames += int64_t(placements.size());
  stats.transform_seconds += seconds_since(start);
}

// Returns false, having counted why, if the CPU must decode the sample.
bool Batch::Shared::load_by_nvdec(size_t sample, const PacketIndex& index, const DecodePlan& plan, PacketReader& reader,
                                  LoaderPool::Worker& worker, DecodeTimes& times, LoadStats& stats) {
  const CudaTarget& target = pool->target();
  if (target.decoding == CudaDecoding::cpu) return false;
  const int64_t num_frames = stats.num_frames;
  const NvdecSink sink = [&](const WantedFrame& wanted, const PictureView& picture, DeviceTransform& transform) {
    write_to_device(sample, wanted.frame, picture, PictureMemory::device, transform, stats);
  };
  try {
    if (target.decoding == CudaDecoding::automatic && int64_t{index.stream.coded_width} * index.stream.coded_height < kSmallPicture) {
      throw NvdecRefusal(Fallback::small_picture, "");
    }
    decode_by_nvdec(*pool->device(), index, plan, reader, *order, sink, times, worker.cancel, &stats.num_nvdec_creations);
    ++stats.num_nvdec_samples;
    return true;
  } catch (const NvdecRefusal& refusal) {
    if (target.is_strict && refusal.reason() == Fallback::create_failed) {  // a stream that its tables allow: it lacks memory, or is lost
      throw CudaError(std::string("CUDA: ") + refusal.what() +
                      ", and strict=True forbids falling back to the CPU; free memory of the GPU, or "
                      "lower vidload.cuda.set_max_decoders");
    }
    if (target.is_strict) {
      throw VideoError(VideoErrorKind::unsupported, sources[sample].path, -1,
                       std::string("NVDEC cannot decode it (") + fallback_name(refusal.reason()) + ": " + refusal.what() +
                           "), and strict=True forbids falling back to the CPU");
    }
    ++stats.num_fallbacks[size_t(refusal.reason())];
    stats.num_frames = num_frames;
    return false;
  }
}

void Batch::Shared::load_video(size_t sample, LoaderPool::Worker& worker, LoadStats& stats) {
  const std::shared_ptr<const PacketIndex> index = infos[sample].index;
  try {
    decode_video(sample, *index, worker, stats);
  } catch (const VideoError& error) {
    if (error.kind() != VideoErrorKind::index_mismatch) throw;
    // The headers or the container's times were wrong about the frames. A decode of the whole file lists them; the sample's frames are
    // the same numbers of that list if it has as many, else they must be drawn again, which is the caller's to do.
    const SampleSource& source = sources[sample];
    ++stats.num_files_decoded;
    infos[sample].index = IndexCache::instance().get_decoded(source.path, source.stream, worker.cancel);
    if (infos[sample].index->num_frames() != index->num_frames()) throw;
    decode_video(sample, *infos[sample].index, worker, stats);
  }
}

void Batch::Shared::decode_video(size_t sample, const PacketIndex& index, LoaderPool::Worker& worker, LoadStats& stats) {
  const std::string& path = sources[sample].path;
  const std::vector<int64_t>& frames = request.samples[sample].frames;
  const auto bad = std::find_if(frames.begin(), frames.end(), [&](int64_t frame) { return frame < 0 || frame >= index.num_frames(); });
  if (bad != frames.end()) {
    throw VideoError(VideoErrorKind::frame_index, path, -1,
                     "frame_index " + std::to_string(*bad) + " is out of range [0, " + std::to_string(index.num_frames()) + ")");
  }
  const DecodePlan plan = decode_plan(index, frames.data(), int64_t(frames.size()));
  stats.num_packets_decoded += plan.num_decoded;
  stats.num_packets_dropped += plan.num_dropped;
  stats.num_packets_skipped += plan.num_skipped;

  const std::unique_ptr<ByteSource> source = open_file(path);
  if (!(source->stamp() == index.stamp)) {
    throw VideoError(VideoErrorKind::unreadable, path, -1, "the file changed after it was indexed; load it again when it is complete");
  }
  PacketReader reader(*source, index, worker.cancel);
  DecodeTimes times;
  const auto add_times = [&] {
    stats.bytes_read += reader.bytes_read();
    stats.read_seconds += times.read_seconds;
    stats.decode_seconds += times.decode_seconds;
  };
  if (pool->device() && load_by_nvdec(sample, index, plan, reader, worker, times, stats)) {
    source->check_unchanged();
    return add_times();
  }
  const Clock::time_point opening = Clock::now();
  Decoder& decoder = worker.decoder(index.stream, path, stats);
  times.decode_seconds += seconds_since(opening);
  const FrameSink sink = [&](const WantedFrame& wanted, const AVFrame& frame) {
    write(sample, wanted.frame, picture_of_frame(worker.converter.converted(frame, path), index.stream, path), worker, stats);
  };
  try {
    for (const Span& span : plan.spans) decoder.run(span, reader, sink, times, worker.cancel);
  } catch (...) {
    worker.forget_decoder();
    throw;
  }
  source->check_unchanged();
  add_times();
}

void Batch::Shared::load_frames(size_t sample, LoaderPool::Worker& worker, LoadStats& stats) {
  const SampleSource& source = sources[sample];
  std::vector<int64_t> frames = request.samples[sample].frames;
  std::sort(frames.begin(), frames.end());
  frames.erase(std::unique(frames.begin(), frames.end()), frames.end());
  for (const int64_t frame : frames) {
    if (worker.cancel->is_set()) return;
    if (frame < 0 || frame >= source.num_frames) {
      throw VideoError(VideoErrorKind::frame_index, source.path, -1,
                       "frame_index " + std::to_string(frame) + " is out of range [0, " + std::to_string(source.num_frames) + ")");
    }
    const std::string path = frame_path(source, frame);
    try {
      Clock::time_point start = Clock::now();
      worker.jpeg.read(path);
      stats.read_seconds += seconds_since(start);
      start = Clock::now();
      const PictureView picture = worker.jpeg.decode(path);
      stats.decode_seconds += seconds_since(start);
      ++stats.num_packets_decoded;
      write(sample, frame, picture, worker, stats);
    } catch (const VideoError& error) {
      throw VideoError(error.kind(), error.path(), frame, error.reason(), error.av_error());
    }
  }
}

void Batch::Shared::load(size_t sample, LoaderPool::Worker& worker, LoadStats& stats) {
  ++stats.num_samples;
  const CudaDevice* device = pool->device();
  if (!device) return load_sample(sample, worker, stats);
  const CurrentContext current(*device);
  if (!worker.device_transform) worker.device_transform = make_device_transform(*device);
  const CUstream stream = worker.device_transform->stream();
  try {
    order->before_writes(stream);
    load_sample(sample, worker, stats);
    order->after_writes(stream);
  } catch (const VideoError&) {
    order->after_writes(stream);  // part of a clip may be on its way
    throw;
  } catch (...) {
    worker.device_transform.reset();  // waits for its stream; what state it was in nobody knows
    throw;
  }
}

void Batch::Shared::load_sample(size_t sample, LoaderPool::Worker& worker, LoadStats& stats) {
  if (infos[sample].index) {
    load_video(sample, worker, stats);
  } else {
    load_frames(sample, worker, stats);
  }
}

Batch::Batch(std::shared_ptr<LoaderPool> pool, std::vector<SampleSource> sources)
    : pool_(std::move(pool)), shared_(std::make_shared<Shared>()) {
  shared_->pool = pool_.get();
  shared_->infos.resize(sources.size());
  shared_->errors.resize(sources.size());
  shared_->sources = std::move(sources);
  std::vector<size_t> all(shared_->sources.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  try {
    Shared::submit(shared_, all, &Shared::find_info, true);
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

const std::vector<SampleInfo>& Batch::infos() const { return shared_->infos; }

const std::vector<std::exception_ptr>& Batch::errors() const { return shared_->errors; }

void Batch::decode(DecodeRequest request) {
  if (request.samples.size() != shared_->sources.size()) throw Error("decode: one request per sample is needed");
  std::vector<size_t> wanted;
  for (size_t i = 0; i < request.samples.size(); ++i) {
    const DecodeRequest::Sample& sample = request.samples[i];
    if (sample.frames.empty()) continue;
    if (shared_->errors[i]) throw Error("decode: sample " + std::to_string(i) + " has failed already");
    if (request.clip_len < 1 || sample.frames.size() % size_t(request.clip_len) != 0) {
      throw Error("decode: the number of frames of a sample must be a multiple of clip_len");
    }
    const int num_clips = int(sample.frames.size()) / request.clip_len;
    for (const DecodeRequest::View& view : sample.views) {
      if (view.clip < 0 || view.clip >= num_clips) throw Error("decode: a view names a clip that is not there");
    }
    wanted.push_back(i);
  }
  Resampler check(request.spec);  // a bad spec is the caller's error, not every sample's
  if (pool_->device()) shared_->order = std::make_unique<WriteOrder>(*pool_->device(), pool_->consumer());
  shared_->request = std::move(request);
  Shared::submit(shared_, wanted, &Shared::load, false);
}

}  // namespace vidload
