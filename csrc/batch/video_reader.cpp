#include "batch/video_reader.h"

#include "base/error.h"
#include "batch/index_cache.h"
#include "decode/open_video.h"
#include "decode/picture_of_frame.h"
#include "transform/transform.h"

namespace vidload {

VideoReader::VideoReader(std::unique_ptr<ByteSource> source)
    : source_(std::move(source)), index_(std::make_shared<PacketIndex>(index_video(*source_))) {}

VideoReader::VideoReader(const std::string& path) : source_(open_file(path)) {
  bool was_scanned = false;
  index_ = IndexCache::instance().get(path, {}, &was_scanned);
}

DecodePlan VideoReader::plan(const std::vector<int64_t>& frames) const {
  for (const int64_t frame : frames) {
    if (frame >= 0 && frame < index_->num_frames()) continue;
    throw VideoError(VideoErrorKind::frame_index, source_->name(), -1,
                     "frame_index " + std::to_string(frame) + " is out of range [0, " + std::to_string(index_->num_frames()) + ")");
  }
  return decode_plan(*index_, frames.data(), int64_t(frames.size()));
}

void VideoReader::read_pictures(const std::vector<int64_t>& frames,
                                const std::function<void(int64_t frame, const AVFrame& picture)>& each) {
  const DecodePlan plan = this->plan(frames);
  std::lock_guard<std::mutex> lock(mutex_);
  if (!decoder_) decoder_ = std::make_unique<Decoder>(index_->stream, source_->name());
  if (!reader_) reader_ = std::make_unique<PacketReader>(*source_, *index_);
  DecodeTimes times;
  const FrameSink sink = [&](const WantedFrame& wanted, const AVFrame& picture) { each(wanted.frame, picture); };
  try {
    for (const Span& span : plan.spans) decoder_->run(span, *reader_, sink, times, nullptr);
  } catch (...) {
    decoder_.reset();  // after an error nobody knows what state it is in
    throw;
  }
}

void VideoReader::read_rgb(const std::vector<int64_t>& frames, uint8_t* out) {
  const int height = index_->stream.height(), width = index_->stream.width();
  const ptrdiff_t frame_size = ptrdiff_t{3} * height * width;
  TransformSpec spec = {};
  spec.height = height;
  spec.width = width;
  spec.dtype = DType::uint8;
  spec.antialias = true;
  Resampler resampler(spec);
  read_pictures(frames, [&](int64_t frame, const AVFrame& decoded) {
    const PictureView picture = picture_of_frame(decoded, index_->stream, source_->name());
    resampler.set(picture, {0, 0, double(picture.height), double(picture.width), false});
    for (size_t i = 0; i < frames.size(); ++i) {
      if (frames[i] == frame) resampler.run(picture, {out + ptrdiff_t(i) * frame_size, 1, ptrdiff_t{3} * width, 3});
    }
  });
}

}  // namespace vidload
