#include "batch/video_reader.h"

#include "base/error.h"
#include "batch/file_attempt.h"
#include "batch/index_cache.h"
#include "decode/open_video.h"
#include "decode/span_check.h"
#include "transform/transform.h"

namespace vidload {
namespace {

// A file may have been replaced between its indexing and its opening.
void check_is_of_source(const PacketIndex& index, const ByteSource& source) {
  if (index.stamp == source.stamp()) return;
  throw VideoError(VideoErrorKind::unreadable, source.name(), -1,
                   "the file changed while it was opened; open it again when it is complete");
}

TransformSpec rgb_spec(int height, int width) {
  TransformSpec spec = {};
  spec.height = height;
  spec.width = width;
  spec.dtype = DType::uint8;
  spec.antialias = true;
  return spec;
}

// Picture `place` of an array [N, height, width, 3].
OutputView rgb_view(const TransformSpec& spec, size_t place, uint8_t* out) {
  return {out + ptrdiff_t(place) * 3 * spec.height * spec.width, 1, ptrdiff_t{3} * spec.width, 3};
}

CropBox whole(const PictureView& picture) { return {0, 0, double(picture.height), double(picture.width), false}; }

}  // namespace

VideoReader::VideoReader(std::unique_ptr<ByteSource> source, int stream, bool allow_damaged, const Cancel* cancel)
    : source_(std::move(source)), stream_(stream), cancel_(cancel), decoders_(open_software(allow_damaged), {1}) {
  attempt_file(source_->name(), [&] { index_ = std::make_shared<PacketIndex>(index_video(*source_, stream, IndexDepth::tables, cancel)); });
}

VideoReader::VideoReader(const SourceId& id, int stream, bool allow_damaged, const Cancel* cancel)
    : source_(open_source(id, cancel)), id_(id), stream_(stream), cancel_(cancel), decoders_(open_software(allow_damaged), {1}) {
  IndexOrigin origin;
  const FileStamp stamp = source_->stamp();
  index_ = IndexCache::instance().get(id, stream, {}, false, cancel, &origin, &stamp);
  check_is_of_source(*index_, *source_);
}

std::shared_ptr<const PacketIndex> VideoReader::index() const {
  std::lock_guard<std::mutex> lock(index_mutex_);
  return index_;
}

std::shared_ptr<const PacketIndex> VideoReader::better_index(const PacketIndex& wrong) {
  std::shared_ptr<const PacketIndex> index;
  attempt_file(source_->name(), [&] {
    const IndexDepth depth = wrong.is_provisional ? IndexDepth::packets : IndexDepth::decoded;
    index = id_ ? IndexCache::instance().get_better(*id_, stream_, wrong, cancel_)
                : std::make_shared<PacketIndex>(index_video(*source_, stream_, depth, cancel_));
  });
  check_is_of_source(*index, *source_);
  std::lock_guard<std::mutex> lock(index_mutex_);
  return index_ = index;
}

template <typename Step>
void VideoReader::with_right_index(Step step) {
  while (true) {
    const std::shared_ptr<const PacketIndex> index = this->index();
    try {
      return attempt_file(source_->name(), [&] { step(index); });
    } catch (const VideoError& error) {
      if (error.kind() != VideoErrorKind::index_mismatch) throw;
      better_index(*index);
    }
  }
}

void VideoReader::read_whole_index() {
  if (const std::shared_ptr<const PacketIndex> index = this->index(); index->is_provisional) better_index(*index);
}

DecodePlan VideoReader::plan(const std::vector<int64_t>& frames) {
  DecodePlan plan;
  with_right_index([&](const std::shared_ptr<const PacketIndex>& index) {
    plan = this->plan(*index, frames);
    PacketReader reader(*source_, *index, cancel_);
    check_plan(plan, reader);
  });
  return plan;
}

DecodePlan VideoReader::plan(const PacketIndex& index, const std::vector<int64_t>& frames) const {
  for (const int64_t frame : frames) {
    if (frame >= 0 && frame < index.num_frames()) continue;
    throw VideoError(VideoErrorKind::frame_index, source_->name(), -1,
                     "frame_index " + std::to_string(frame) + " is out of range [0, " + std::to_string(index.num_frames()) + ")");
  }
  return decode_plan(index, frames.data(), int64_t(frames.size()));
}

void VideoReader::decode(const std::vector<int64_t>& frames, const DecodePolicy& policy, WriteOrder* order, const PlacedSink& sink) {
  with_right_index([&](const std::shared_ptr<const PacketIndex>& index) {
    DecodePlan plan = this->plan(*index, frames);
    if (!reader_ || open_index_ != index) reader_ = std::make_unique<PacketReader>(*source_, *index, cancel_);
    open_index_ = index;
    LoadStats stats;
    reader_->prefetch(plan);
    try {
      check_plan(plan, *reader_);
      decode_plan_by_choice(policy, decoders_, *index, plan, *reader_, order, sink, cancel_, stats);
      source_->check_unchanged();
    } catch (const VideoError& error) {
      reader_.reset();  // what it holds may be of a file that is no more
      if (error.kind() != VideoErrorKind::cancelled) source_->check_unchanged();
      throw;
    } catch (...) {
      reader_.reset();
      throw;
    }
  });
}

void VideoReader::read_pictures(const std::vector<int64_t>& frames,
                                const std::function<void(int64_t frame, const AVFrame& picture)>& each) {
  std::lock_guard<std::mutex> lock(mutex_);
  decode(frames, {}, nullptr,
         [&](const WantedFrame& wanted, const DecodedPicture& picture, DeviceTransform*) { each(wanted.frame, picture.frame()); });
}

void VideoReader::read_rgb(const std::vector<int64_t>& frames, int height, int width, uint8_t* out) {
  const TransformSpec spec = rgb_spec(height, width);
  Resampler resampler(spec);
  std::lock_guard<std::mutex> lock(mutex_);
  decode(frames, {}, nullptr, [&](const WantedFrame& wanted, const DecodedPicture& decoded, DeviceTransform*) {
    const PictureView picture = decoded.view();
    resampler.set(picture, whole(picture));
    for (size_t i = 0; i < frames.size(); ++i) {
      if (frames[i] == wanted.frame) resampler.run(picture, rgb_view(spec, i, out));
    }
  });
}

void VideoReader::read_rgb(const std::vector<int64_t>& frames, int height, int width, const CudaDevice& device, const DecodePolicy& policy,
                           uint8_t* out, CUstream consumer) {
  const TransformSpec spec = rgb_spec(height, width);
  std::lock_guard<std::mutex> lock(mutex_);
  const CurrentContext current(device);
  WriteOrder order(device, consumer);
  bool is_transform_used = false;
  const auto own_transform = [&]() -> DeviceTransform& {
    if (is_transform_used) return *transform_;
    if (transform_ && transform_->device().ordinal() != device.ordinal()) transform_.reset();
    if (!transform_) transform_ = make_device_transform(device);
    order.before_writes(transform_->stream());
    is_transform_used = true;
    return *transform_;
  };
  try {
    decode(frames, policy, &order, [&](const WantedFrame& wanted, const DecodedPicture& decoded, DeviceTransform* decoders) {
      const PictureView picture = decoded.view();
      std::vector<DevicePlacement> placements;
      for (size_t i = 0; i < frames.size(); ++i) {
        if (frames[i] == wanted.frame) placements.push_back({0, whole(picture), rgb_view(spec, i, out)});
      }
      DeviceTransform& transform = decoders ? *decoders : own_transform();
      transform.run(spec, picture, decoders ? PictureMemory::device : PictureMemory::host, placements);
    });
  } catch (...) {
    transform_.reset();  // waits for what is queued: the memory it writes to may go
    throw;
  }
  if (is_transform_used) order.after_writes(transform_->stream());
  order.finish(consumer);
}

}  // namespace vidload
