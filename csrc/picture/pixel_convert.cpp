#include "picture/pixel_convert.h"

extern "C" {
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
}

#include <new>

#include "base/error.h"

namespace vidload {
namespace {

AVPixelFormat readable_twin(AVPixelFormat format) {
  const AVPixFmtDescriptor* descriptor = av_pix_fmt_desc_get(format);
  if (!descriptor || (descriptor->flags & AV_PIX_FMT_FLAG_HWACCEL)) return AV_PIX_FMT_NONE;
  if (format == AV_PIX_FMT_UYYVYY411) return AV_PIX_FMT_YUV411P;
  const AVPixelFormat swapped = (descriptor->flags & AV_PIX_FMT_FLAG_BE) ? av_pix_fmt_swap_endianness(format) : AV_PIX_FMT_NONE;
  if (swapped != AV_PIX_FMT_NONE && is_read_directly(swapped)) return swapped;
  const bool is_wide = descriptor->comp[0].depth > 8;
  const bool is_color = descriptor->nb_components >= 3 || (descriptor->flags & (AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BAYER));
  if (is_color) return is_wide ? AV_PIX_FMT_RGB48LE : AV_PIX_FMT_RGB24;
  return is_wide ? AV_PIX_FMT_GRAY16LE : AV_PIX_FMT_GRAY8;
}

}  // namespace

bool is_read_directly(AVPixelFormat format) {
  const AVPixFmtDescriptor* descriptor = av_pix_fmt_desc_get(format);
  if (!descriptor || format == AV_PIX_FMT_UYYVYY411 || format == AV_PIX_FMT_XYZ12LE) return false;
  const uint64_t refused =
      AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BITSTREAM | AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_FLOAT | AV_PIX_FMT_FLAG_BAYER;
  const int depth = descriptor->comp[0].depth;
  if (descriptor->nb_components < 1 || (descriptor->flags & refused) || depth < 8 || depth > 16) return false;
  for (int i = 1; i < descriptor->nb_components && i < 3; ++i) {
    if (descriptor->comp[i].depth != depth || descriptor->comp[i].shift != descriptor->comp[0].shift) return false;
  }
  return depth == 8 || !(descriptor->flags & AV_PIX_FMT_FLAG_BE);
}

bool can_convert(AVPixelFormat format) {
  return is_read_directly(format) || (readable_twin(format) != AV_PIX_FMT_NONE && sws_isSupportedInput(format));
}

PixelConverter::~PixelConverter() { sws_freeContext(context_); }

const AVFrame& PixelConverter::converted(const AVFrame& frame, const std::string& path) {
  const AVPixelFormat format = AVPixelFormat(frame.format);
  if (is_read_directly(format)) return frame;  // NOLINT(bugprone-return-const-ref-from-parameter): callers keep theirs
  const AVPixelFormat target = readable_twin(format);
  if (target == AV_PIX_FMT_NONE || !sws_isSupportedInput(format)) {
    const char* name = av_get_pix_fmt_name(format);
    throw VideoError(VideoErrorKind::unsupported, path, -1,
                     std::string("its pixel format '") + (name ? name : "unknown") + "' is not supported; re-encode it as yuv420p");
  }
  context_ = sws_getCachedContext(context_, frame.width, frame.height, format, frame.width, frame.height, target,
                                  SWS_POINT | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_BITEXACT, nullptr, nullptr, nullptr);
  if (!frame_) frame_.reset(av_frame_alloc());
  if (!context_ || !frame_) throw std::bad_alloc();
  av_frame_unref(frame_.get());
  frame_->format = target;
  frame_->width = frame.width;
  frame_->height = frame.height;
  if (av_frame_get_buffer(frame_.get(), 0) < 0 || av_frame_copy_props(frame_.get(), &frame) < 0) throw std::bad_alloc();
  sws_scale(context_, frame.data, frame.linesize, 0, frame.height, frame_->data, frame_->linesize);
  return *frame_;
}

}  // namespace vidload
