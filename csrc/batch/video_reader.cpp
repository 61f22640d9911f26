#include "batch/video_reader.h"

#include "base/error.h"
#include "batch/file_attempt.h"
#include "batch/index_cache.h"
#include "cuda/nvdec_decoder.h"
#include "decode/open_video.h"
#include "decode/picture_of_frame.h"
#include "transform/transform.h"

namespace vidload {
namespace {

// A file may have been replaced between its indexing and its opening.
void check_is_of_source(const PacketIndex& index, const ByteSource& source) {
  if (index.stamp == source.stamp()) return;
  throw VideoError(VideoErrorKind::unreadable, source.name(), -1,
                   "the file changed while it was opened; open it again when it is complete");
}

}  // namespace

VideoReader::VideoReader(std::unique_ptr<ByteSource> source, int stream, bool allow_damaged, const Cancel* cancel)
    : source_(std::move(source)), stream_(stream), allow_damaged_(allow_damaged), cancel_(cancel) {
  attempt_file(source_->name(), [&] { index_ = std::make_shared<PacketIndex>(index_video(*source_, stream, false, cancel)); });
}

VideoReader::VideoReader(const std::string& path, int stream, bool allow_damaged, const Cancel* cancel)
    : source_(open_file(path)), path_(path), stream_(stream), allow_damaged_(allow_damaged), cancel_(cancel) {
  IndexOrigin origin;
  index_ = IndexCache::instance().get(path, stream, {}, cancel, &origin);
  check_is_of_source(*index_, *source_);
}

std::shared_ptr<const PacketIndex> VideoReader::index() const {
  std::lock_guard<std::mutex> lock(index_mutex_);
  return index_;
}

std::shared_ptr<const PacketIndex> VideoReader::decoded_index() {
  std::shared_ptr<const PacketIndex> index;
  attempt_file(source_->name(), [&] {
    index = path_.empty() ? std::make_shared<PacketIndex>(index_video(*source_, stream_, true, cancel_))
                          : IndexCache::instance().get_decoded(path_, stream_, cancel_);
  });
  check_is_of_source(*index, *source_);
  std::lock_guard<std::mutex> lock(index_mutex_);
  return index_ = index;
}

DecodePlan VideoReader::plan(const std::vector<int64_t>& frames) const { return plan(*index(), frames); }

DecodePlan VideoReader::plan(const PacketIndex& index, const std::vector<int64_t>& frames) const {
  for (const int64_t frame : frames) {
    if (frame >= 0 && frame < index.num_frames()) continue;
    throw VideoError(VideoErrorKind::frame_index, source_->name(), -1,
                     "frame_index " + std::to_string(frame) + " is out of range [0, " + std::to_string(index.num_frames()) + ")");
  }
  return decode_plan(index, frames.data(), int64_t(frames.size()));
}

void VideoReader::read_pictures(const std::vector<int64_t>& frames,
                                const std::function<void(int64_t frame, const AVFrame& picture)>& each) {
  std::lock_guard<std::mutex> lock(mutex_);
  try {
    attempt_file(source_->name(), [&] { read_pictures_of(index(), frames, each); });
  } catch (const VideoError& error) {
    if (error.kind() != VideoErrorKind::index_mismatch) throw;
    decoded_index();
    attempt_file(source_->name(), [&] { read_pictures_of(index(), frames, each); });
  }
}

void VideoReader::read_pictures_of(const std::shared_ptr<const PacketIndex>& index, const std::vector<int64_t>& frames,
                                   const std::function<void(int64_t frame, const AVFrame& picture)>& each) {
  const DecodePlan plan = this->plan(*index, frames);
  if (open_index_ != index) decoder_.reset(), reader_.reset();
  open_index_ = index;
  DecodeTimes times;
  const FrameSink sink = [&](const WantedFrame& wanted, const AVFrame& picture) { each(wanted.frame, picture); };
  try {
    if (!decoder_) decoder_ = std::make_unique<Decoder>(index->stream, source_->name(), allow_damaged_);
    if (!reader_) reader_ = std::make_unique<PacketReader>(*source_, *index, cancel_);
    for (const Span& span : plan.spans) decoder_->run(span, *reader_, sink, times, cancel_);
    source_->check_unchanged();
  } catch (...) {
    decoder_.reset();  // after an error nobody knows what state they are in
    reader_.reset();
    throw;
  }
}

void VideoReader::read_rgb(const std::vector<int64_t>& frames, int height, int width, uint8_t* out) {
  const StreamInfo stream = index()->stream;
  const ptrdiff_t frame_size = ptrdiff_t{3} * height * width;
  TransformSpec spec = {};
  spec.height = height;
  spec.width = width;
  spec.dtype = DType::uint8;
  spec.antialias = true;
  Resampler resampler(spec);
  read_pictures(frames, [&](int64_t frame, const AVFrame& decoded) {
    const PictureView picture = picture_of_frame(converter_.converted(decoded, source_->name()), stream, source_->name());
    resampler.set(picture, {0, 0, double(picture.height), double(picture.width), false});
    for (size_t i = 0; i < frames.size(); ++i) {
      if (frames[i] == frame) resampler.run(picture, {out + ptrdiff_t(i) * frame_size, 1, ptrdiff_t{3} * width, 3});
    }
  });
}

void VideoReader::read_rgb(const std::vector<int64_t>& frames, int height, int width, const CudaTarget& target, uint8_t* out,
                           CUstream consumer) {
  const std::shared_ptr<const PacketIndex> index = this->index();
  const StreamInfo& stream = index->stream;
  const DecodePlan plan = this->plan(*index, frames);
  const CudaDevice& device = CudaDevice::get(target.device);
  std::lock_guard<std::mutex> lock(device_mutex_);
  const CurrentContext current(device);
  TransformSpec spec = {};
  spec.height = height;
  spec.width = width;
  spec.dtype = DType::uint8;
  spec.antialias = true;
  const ptrdiff_t frame_size = ptrdiff_t{3} * spec.height * spec.width;
  WriteOrder order(device, consumer);
  const auto write = [&](int64_t frame, const PictureView& picture, PictureMemory memory, DeviceTransform& transform) {
    std::vector<DevicePlacement> placements;
    const CropBox box{0, 0, double(picture.height), double(picture.width), false};
    for (size_t i = 0; i < frames.size(); ++i) {
      if (frames[i] == frame) placements.push_back({0, box, {out + ptrdiff_t(i) * frame_size, 1, ptrdiff_t{3} * spec.width, 3}});
    }
    transform.run(spec, picture, memory, placements);
  };
  const bool is_small = int64_t{stream.coded_width} * stream.coded_height < kSmallPicture;
  bool is_done = false;
  if (target.decoding == CudaDecoding::nvdec || (target.decoding == CudaDecoding::automatic && !is_small)) {
    try {
      PacketReader reader(*source_, *index, cancel_);
      DecodeTimes times;
      int64_t num_creations = 0;
      const NvdecSink sink = [&](const WantedFrame& wanted, const PictureView& picture, DeviceTransform& transform) {
        write(wanted.frame, picture, PictureMemory::device, transform);
      };
      decode_by_nvdec(device, *index, plan, reader, order, sink, times, cancel_, &num_creations);
      is_done = true;
    } catch (const NvdecRefusal& refusal) {
      if (target.is_strict) {
        throw VideoError(VideoErrorKind::unsupported, source_->name(), -1,
                         std::string("NVDEC cannot decode it (") + fallback_name(refusal.reason()) + ": " + refusal.what() + ")");
      }
    }
  }
  if (!is_done) {
    if (transform_ && transform_->device().ordinal() != target.device) transform_.reset();
    if (!transform_) transform_ = make_device_transform(device);
    order.before_writes(transform_->stream());
    try {
      read_pictures(frames, [&](int64_t frame, const AVFrame& decoded) {
        write(frame, picture_of_frame(converter_.converted(decoded, source_->name()), stream, source_->name()), PictureMemory::host,
              *transform_);
      });
    } catch (...) {
      transform_.reset();  // waits for what is queued: the memory it writes to may go
      throw;
    }
    order.after_writes(transform_->stream());
  }
  order.finish(consumer);
}

}  // namespace vidload
