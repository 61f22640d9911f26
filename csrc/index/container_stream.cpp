#include "index/container_stream.h"

extern "C" {
#include <libavutil/display.h>
}

#include <cmath>
#include <cstring>

namespace vidload {
namespace {

#if LIBAVFORMAT_VERSION_MAJOR >= 60
const int32_t* display_matrix(const AVStream* stream) {
#if LIBAVFORMAT_VERSION_MAJOR >= 61
  const AVPacketSideData* data =
      av_packet_side_data_get(stream->codecpar->coded_side_data, stream->codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
  return data && data->size >= 36 ? reinterpret_cast<const int32_t*>(data->data) : nullptr;
#else
  size_t size = 0;
  const uint8_t* data = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
  return data && size >= 36 ? reinterpret_cast<const int32_t*>(data) : nullptr;
#endif
}
#else
const int32_t* display_matrix(const AVStream* stream) {
#if LIBAVFORMAT_VERSION_MAJOR >= 59
  size_t size = 0;
#else
  int size = 0;
#endif
  const uint8_t* data = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
  return data && size >= 36 ? reinterpret_cast<const int32_t*>(data) : nullptr;
}
#endif

// Note [Display matrix]
// The matrix maps decoded (x, y) to shown (x, y): x' = a x + c y, y' = b x + d y, y pointing down. A mirrored picture has a negative
// determinant; undoing the mirror first (negating a and c, as it is applied last) leaves a rotation whose angle av_display_rotation_get
// gives counterclockwise. Angles are rounded to quarter turns; phones write nothing else.
void read_orientation(const AVStream* stream, StreamInfo& info) {
  const int32_t* matrix = display_matrix(stream);
  if (!matrix) return;
  int32_t turned[9];
  std::memcpy(turned, matrix, sizeof turned);
  const double determinant = double(turned[0]) * turned[4] - double(turned[1]) * turned[3];
  info.is_mirrored = determinant < 0;
  if (info.is_mirrored) turned[0] = -turned[0], turned[3] = -turned[3];
  const double counterclockwise = av_display_rotation_get(turned);
  if (std::isnan(counterclockwise)) return;
  info.rotation = int((std::lround(-counterclockwise / 90.0) % 4 + 4) % 4) * 90;
}

}  // namespace

StreamInfo stream_info(const Container& container) {
  const AVStream* stream = container.stream();
  const AVCodecParameters& parameters = *stream->codecpar;
  StreamInfo info;
  info.stream_number = stream->index;
  info.container = container.format()->iformat->name;
  take_parameters(parameters, info);
  // As av_guess_sample_aspect_ratio chooses: the container's word, else the codec's.
  const AVRational aspect = stream->sample_aspect_ratio.num > 0 ? stream->sample_aspect_ratio : parameters.sample_aspect_ratio;
  if (aspect.num > 0 && aspect.den > 0) info.sample_aspect_ratio = {aspect.num, aspect.den};
  info.time_base = {stream->time_base.num, stream->time_base.den};
  read_orientation(stream, info);
  return info;
}

PacketScan begin_scan(const Container& container, const ByteSource& source) {
  PacketScan scan;
  scan.index.stream = stream_info(container);
  scan.index.stamp = source.stamp();
  check_limits(scan.index, source.name());
  return scan;
}

Rational stated_fps(const Container& container) {
  AVRational fps = container.stream()->avg_frame_rate;
  if (fps.num <= 0) fps = container.stream()->r_frame_rate;
  return {fps.num, fps.den};
}

}  // namespace vidload
