#include "decode/open_video.h"

#include <algorithm>
#include <limits>

extern "C" {
#include <libavutil/pixdesc.h>
}

#include "base/error.h"
#include "decode/decoder.h"

namespace vidload {
namespace {

void take_facts(const AVFrame& picture, StreamInfo& stream) {
  stream.coded_width = picture.width;
  stream.coded_height = picture.height;
  if (const char* name = av_get_pix_fmt_name(AVPixelFormat(picture.format))) stream.pixel_format = name;
  stream.color_primaries = picture.color_primaries;
  stream.color_transfer = picture.color_trc;
  stream.color_space = picture.colorspace;
  stream.color_range = picture.color_range;
  stream.chroma_location = picture.chroma_location;
}

// Lists the frames as a decode from the first packet to the last gives them.
void list_decoded_frames(PacketIndex& index, const ByteSource& source) {
  std::vector<int32_t> frame_packet;
  decode_all(index, source, [&](int32_t packet, const AVFrame& picture) {
    const bool is_known = std::find(frame_packet.begin(), frame_packet.end(), packet) != frame_packet.end();
    if ((index.flags[size_t(packet)] & kDiscard) || is_known) return;
    if (frame_packet.empty()) take_facts(picture, index.stream);
    frame_packet.push_back(packet);
    // AVI marks the empty packet after a packed keyframe as one too; a B picture comes out of it.
    if (picture.pict_type != AV_PICTURE_TYPE_I && picture.pict_type != AV_PICTURE_TYPE_NONE) {
      index.flags[size_t(packet)] &= uint8_t(~kKeyframe);
    }
  });
  std::vector<int64_t> times;
  for (const int32_t packet : frame_packet) times.push_back(index.pts[size_t(packet)]);
  std::sort(times.begin(), times.end());
  index.frame_packet = frame_packet;
  index.frame_pts = times;
  // From here on pts means place in presentation order; a packet that gives no frame has none and nothing starts there.
  index.pts.assign(index.pts.size(), std::numeric_limits<int64_t>::max());
  for (size_t i = 0; i < frame_packet.size(); ++i) index.pts[size_t(frame_packet[i])] = times[i];
  std::vector<uint8_t> gives_frame(index.pts.size(), 0);
  for (const int32_t packet : frame_packet) gives_frame[size_t(packet)] = 1;
  for (size_t i = 0; i < index.flags.size(); ++i) {
    if (!gives_frame[i]) index.flags[i] = uint8_t((index.flags[i] | kHidden) & ~kKeyframe);
  }
}

void read_first_picture(PacketIndex& index, const ByteSource& source) {
  const int64_t first = 0;
  const DecodePlan plan = decode_plan(index, &first, 1);
  Decoder decoder(index.stream, source.name());
  PacketReader reader(source, index);
  DecodeTimes times;
  try {
    decoder.run(
        plan.spans[0], reader, [&](const WantedFrame&, const AVFrame& picture) { take_facts(picture, index.stream); }, times, nullptr);
  } catch (const VideoError& error) {
    if (error.kind() != VideoErrorKind::damaged) throw;
    index.note = "its first frame is damaged; size and colors are as the container states them";  // other frames may be intact
  }
}

}  // namespace

PacketIndex index_video(const ByteSource& source) {
  PacketIndex index = scan_packets(source);
  if (index.is_regular && index.num_frames() > 0) {
    read_first_picture(index, source);
  } else {
    list_decoded_frames(index, source);
    measure_timing(index, index.stream.average_fps, 0);
  }
  if (index.num_frames() == 0) throw VideoError(VideoErrorKind::unreadable, source.name(), -1, "no frame of it can be decoded");
  if (index.stream.coded_width <= 0 || index.stream.coded_height <= 0) {
    throw VideoError(VideoErrorKind::unreadable, source.name(), -1, "its picture size is unknown and its first frame damaged");
  }
  return index;
}

}  // namespace vidload
