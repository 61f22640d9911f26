#include "picture/picture_of_frame.h"

extern "C" {
#include <libavutil/pixdesc.h>
}

#include <cstring>

#include "base/error.h"
#include "picture/pixel_convert.h"

namespace vidload {
namespace {

ColorMatrix color_matrix(const AVFrame& frame, const std::string& path) {
  switch (frame.colorspace) {
    case AVCOL_SPC_BT709: return ColorMatrix::bt709;
    case AVCOL_SPC_FCC: return ColorMatrix::fcc;
    case AVCOL_SPC_SMPTE240M: return ColorMatrix::smpte240m;
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL: return ColorMatrix::bt2020;
    case AVCOL_SPC_YCGCO:
    case AVCOL_SPC_SMPTE2085:
    case AVCOL_SPC_CHROMA_DERIVED_NCL:
    case AVCOL_SPC_CHROMA_DERIVED_CL:
    case AVCOL_SPC_ICTCP:
      throw VideoError(VideoErrorKind::unsupported, path, -1,
                       std::string("its color matrix '") + av_color_space_name(frame.colorspace) +
                           "' is not supported; re-encode it as BT.601, BT.709 or BT.2020");
    default: return ColorMatrix::bt601;  // BT.470BG, SMPTE 170M, and where the stream states none, as FFmpeg does
  }
}

// See Note [Chroma siting] in picture/picture.h. AVChromaLocation: left, center, top left, top, bottom left, bottom.
double chroma_offset_x(AVChromaLocation location, double scale) {
  const bool is_centered = location == AVCHROMA_LOC_CENTER || location == AVCHROMA_LOC_TOP || location == AVCHROMA_LOC_BOTTOM;
  return is_centered ? scale / 2 : 0.5;
}

double chroma_offset_y(AVChromaLocation location, double scale) {
  if (location == AVCHROMA_LOC_TOPLEFT || location == AVCHROMA_LOC_TOP) return 0.5;
  if (location == AVCHROMA_LOC_BOTTOMLEFT || location == AVCHROMA_LOC_BOTTOM) return scale - 0.5;
  return scale / 2;
}

}  // namespace

PictureView picture_of_frame(const AVFrame& frame, const StreamInfo& stream, const std::string& path) {
  const AVPixFmtDescriptor* format = av_pix_fmt_desc_get(AVPixelFormat(frame.format));
  if (!is_read_directly(AVPixelFormat(frame.format))) {
    throw VideoError(
        VideoErrorKind::unsupported, path, -1,
        std::string("its pixel format '") + (format ? format->name : "unknown") + "' is not supported; re-encode it as yuv420p");
  }
  const bool is_wide = format->comp[0].depth > 8;
  const bool is_rgb = format->flags & AV_PIX_FMT_FLAG_RGB;
  const bool is_gray = format->nb_components < 3;

  PictureView picture = {};
  picture.width = frame.width;
  picture.height = frame.height;
  picture.num_planes = is_gray ? 1 : 3;
  picture.bytes_per_sample = is_wide ? 2 : 1;
  picture.bit_depth = format->comp[0].depth;
  picture.shift = format->comp[0].shift;
  picture.chroma_scale_x = is_gray ? 1 : 1 << format->log2_chroma_w;
  picture.chroma_scale_y = is_gray ? 1 : 1 << format->log2_chroma_h;
  picture.chroma_offset_x = chroma_offset_x(frame.chroma_location, picture.chroma_scale_x);
  picture.chroma_offset_y = chroma_offset_y(frame.chroma_location, picture.chroma_scale_y);
  const int rgb_order[3] = {1, 2, 0};  // the descriptor lists R, G, B; PictureView G, B, R
  for (int i = 0; i < picture.num_planes; ++i) {
    const AVComponentDescriptor& component = format->comp[is_rgb ? rgb_order[i] : i];
    const bool is_chroma = !is_rgb && i > 0;
    PlaneView& plane = picture.planes[i];
    plane.data = frame.data[component.plane] + component.offset;
    plane.row_stride_bytes = frame.linesize[component.plane];
    plane.pixel_stride_bytes = component.step;
    plane.width = is_chroma ? AV_CEIL_RSHIFT(frame.width, format->log2_chroma_w) : frame.width;
    plane.height = is_chroma ? AV_CEIL_RSHIFT(frame.height, format->log2_chroma_h) : frame.height;
  }
  const bool is_jpeg_format = std::strncmp(format->name, "yuvj", 4) == 0;
  const bool is_unstated_gray = is_gray && frame.color_range == AVCOL_RANGE_UNSPECIFIED;  // full range, as libswscale takes it
  picture.range =
      is_rgb || is_jpeg_format || is_unstated_gray || frame.color_range == AVCOL_RANGE_JPEG ? ColorRange::full : ColorRange::limited;
  picture.matrix = is_rgb ? ColorMatrix::rgb : is_gray ? ColorMatrix::bt601 : color_matrix(frame, path);
  return oriented(picture, stream.rotation, stream.is_mirrored);
}

}  // namespace vidload
