#include "decode/open_video.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

extern "C" {
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
}

#include "base/error.h"
#include "decode/first_picture.h"
#include "decode/software_decoder.h"
#include "index/frame_order.h"
#include "picture/pixel_convert.h"

namespace vidload {
namespace {

constexpr int64_t kNoPlace = std::numeric_limits<int64_t>::max();

// FNV-1a over 8 bytes at a time of what is shown of a picture; never 0.
uint64_t checksum(const AVFrame& picture) {
  uint64_t sum = 14695981039346656037ULL;
  const auto add = [&sum](uint64_t value) { sum = (sum ^ value) * 1099511628211ULL; };
  add(uint64_t(picture.width) << 32 | uint64_t(uint32_t(picture.height)));
  add(uint64_t(picture.format));
  const AVPixFmtDescriptor* format = av_pix_fmt_desc_get(AVPixelFormat(picture.format));
  int sizes[4] = {};
  av_image_fill_linesizes(sizes, AVPixelFormat(picture.format), picture.width);
  for (int plane = 0; plane < 4 && picture.data[plane]; ++plane) {
    const bool is_chroma = format && !(format->flags & AV_PIX_FMT_FLAG_RGB) && (plane == 1 || plane == 2);
    const bool is_palette = plane == 1 && format && (format->flags & AV_PIX_FMT_FLAG_PAL);
    const int rows = is_palette ? 1 : is_chroma ? AV_CEIL_RSHIFT(picture.height, format->log2_chroma_h) : picture.height;
    const size_t size = is_palette ? 1024 : size_t(std::max(sizes[plane], 0));
    for (int row = 0; row < rows; ++row) {
      const uint8_t* at = picture.data[plane] + ptrdiff_t{picture.linesize[plane]} * row;
      size_t i = 0;
      for (; i + 8 <= size; i += 8) {
        uint64_t value = 0;
        std::memcpy(&value, at + i, 8);
        add(value);
      }
      for (; i < size; ++i) add(at[i]);
    }
  }
  return sum ? sum : 1;
}

// What a decode of the whole stream gave for each packet.
struct DecodedFrames {
  std::vector<int32_t> order;      // packets of which a frame came, in output order; one whose frame came twice stands there twice
  std::vector<uint64_t> checksum;  // per packet; 0: no frame, or one outside the edit list
  std::vector<bool> is_intra;      // per packet: an I picture came, or one of a codec that does not say
};

DecodedFrames decode_and_note(PacketIndex& index, const ByteSource& source, const Cancel* cancel) {
  DecodedFrames decoded;
  decoded.checksum.resize(index.pts.size());
  decoded.is_intra.resize(index.pts.size());
  decode_all(index, source, cancel, [&](int32_t packet, const AVFrame& picture) {
    if (decoded.checksum[size_t(packet)] != 0) {
      // libavcodec shows a held-back MPEG-4 picture again where B pictures begin unannounced.
      if (checksum(picture) != decoded.checksum[size_t(packet)]) {
        throw VideoError(VideoErrorKind::unsupported, source.name(), -1,
                         "more than one frame comes out of packet " + std::to_string(packet) + "; encode it again");
      }
      decoded.order.push_back(packet);
      return;
    }
    decoded.is_intra[size_t(packet)] = picture.pict_type == AV_PICTURE_TYPE_I || picture.pict_type == AV_PICTURE_TYPE_NONE;
    if (index.flags[size_t(packet)] & kDiscard) return;
    if (decoded.order.empty()) take_picture_facts(picture, index.stream);
    decoded.order.push_back(packet);
    decoded.checksum[size_t(packet)] = checksum(picture);
  });
  return decoded;
}

// Whether a decode that starts at `start` gives, bit for bit, the frames that start there once it is a keyframe: those of its packets and
// leading pictures of the keyframe `next` that are shown after it. `limit`: the keyframe after `next`.
bool decodes_alike(const PacketIndex& index, const ByteSource& source, const DecodedFrames& decoded, int32_t start, int32_t next,
                   int32_t limit, const Cancel* cancel) {
  Span span;
  for (int32_t packet = start; packet < limit; ++packet) {
    const int64_t place = index.pts[size_t(packet)];
    const bool starts_here = place != kNoPlace && place >= index.pts[size_t(start)] && (packet < next || place < index.pts[size_t(next)]);
    if (starts_here) span.wanted.push_back({packet, int32_t(place)});
  }
  int32_t end = span.wanted.back().packet + 1;
  while (end < index.num_packets() && index.pts[size_t(end)] == kNoPlace) ++end;
  for (int32_t packet = start; packet < end; ++packet) span.packets.push_back(packet);
  struct Different {};
  try {
    SoftwareDecoder decoder(index.stream, source.name(), true);
    PacketReader reader(source, index, cancel);
    DecodeTimes times;
    decoder.run(
        span, reader,
        [&](const WantedFrame& wanted, const DecodedPicture& picture) {
          if (checksum(picture.frame()) != decoded.checksum[size_t(wanted.packet)]) throw Different{};
        },
        times, cancel);
    return true;
  } catch (const Different&) {
    return false;
  } catch (const VideoError& error) {
    if (error.kind() == VideoErrorKind::cancelled) throw;
    return false;  // a frame did not come
  }
}

// How long a frame lasts by the container's frame rate.
int64_t frame_ticks(const PacketScan& scan) {
  const double fps = scan.container_fps.num > 0 ? scan.container_fps.value() : 25, tick = scan.index.stream.time_base.value();
  return tick > 0 ? std::max<int64_t>(1, std::llround(1 / fps / tick)) : 1;
}

// The times that the container gives to frames, if it gives each one and they rise: packets without a pts may give no frames, as leading
// pictures at the beginning of a cut. Else empty.
std::vector<int64_t> stated_times(const PacketScan& scan, const std::vector<int32_t>& order) {
  std::vector<int64_t> times;
  for (const int32_t packet : order) {
    const int64_t time = scan.stated_pts.empty() ? AV_NOPTS_VALUE : scan.stated_pts[size_t(packet)];
    if (time == AV_NOPTS_VALUE || (!times.empty() && times.back() >= time)) return {};
    times.push_back(time);
  }
  return times;
}

// Lists the frames as a decode from the first packet to the last gives them, and keeps as keyframes only those from which decoding gives
// the same frames again.
void list_decoded_frames(PacketScan& scan, const ByteSource& source, const Cancel* cancel) {
  PacketIndex& index = scan.index;
  index.is_regular = false;
  const DecodedFrames decoded = decode_and_note(index, source, cancel);
  const std::vector<int32_t>& order = decoded.order;
  std::vector<int64_t> times;
  std::vector<int32_t> part;
  for (const int32_t packet : order) times.push_back(index.pts[size_t(packet)]), part.push_back(scan.part[size_t(packet)]);
  index.frame_packet = order;
  index.frame_pts = stated_times(scan, order);
  if (!index.frame_pts.empty()) {
    index.stream.time_base = scan.stated_time_base;
  } else {
    index.frame_pts = rising_times(times, part, frame_ticks(scan));
    if (scan.part.back() > 0 && index.note.empty()) index.note = "its timestamps jump back; what follows was placed after what came before";
  }
  index.pts.assign(index.pts.size(), kNoPlace);
  for (size_t i = order.size(); i-- > 0;) index.pts[size_t(order[i])] = int64_t(i);  // its first frame's

  std::vector<int32_t> candidates;
  int32_t first_whole = -1;  // the first picture that stands alone
  for (int32_t packet = 0; packet < index.num_packets(); ++packet) {
    uint8_t& flags = index.flags[size_t(packet)];
    const bool gives_frame = decoded.checksum[size_t(packet)] != 0;
    const bool may_start = flags & (scan.tells_start ? kKeyframe : kKeyframe | kContainerKey);
    flags = uint8_t((flags & (kDiscard | kContainerKey | kDamaged)) | (gives_frame ? 0 : kHidden));
    if (first_whole < 0 && decoded.is_intra[size_t(packet)] && (may_start || !scan.tells_start)) first_whole = packet;
    // AVI marks the empty packet after a packed keyframe as one too; a B picture comes out of it.
    if (gives_frame && may_start && decoded.is_intra[size_t(packet)]) candidates.push_back(packet);
  }
  int32_t next = index.num_packets(), limit = next;
  for (auto candidate = candidates.rbegin(); candidate != candidates.rend(); ++candidate) {
    if (!decodes_alike(index, source, decoded, *candidate, next, limit, cancel)) continue;
    index.flags[size_t(*candidate)] |= kKeyframe;
    limit = next;
    next = *candidate;
  }

  // H.264 itself withholds what it cannot show whole; the others show it, predicted from gray or from nothing.
  if (index.stream.codec == "h264" || order.empty()) return;
  // H.261 calls every picture P; its container, or its parser, then says more.
  if (first_whole < 0 && !scan.tells_start && (index.flags[0] & kContainerKey)) first_whole = 0;
  const bool is_shown = first_whole >= 0 && index.pts[size_t(first_whole)] != kNoPlace;
  const int64_t first_place = is_shown ? index.pts[size_t(first_whole)] : 0;
  for (const int32_t packet : order) {
    const bool is_whole = first_whole >= 0 && packet >= first_whole && index.pts[size_t(packet)] >= first_place;
    if (!is_whole) index.flags[size_t(packet)] |= kUntrusted;
  }
}

// Throws as SoftwareDecoder::run.
void read_first_picture(PacketIndex& index, const ByteSource& source, const Cancel* cancel) {
  PacketReader reader(source, index, cancel);
  decode_first_picture(reader, index.stream);
}

// Takes the same facts from the first picture's headers alone.
bool has_first_header(PacketIndex& index, const ByteSource& source, const Cancel* cancel) {
  PacketReader reader(source, index, cancel);
  return read_first_headers(reader, index.stream);
}

bool has_first_picture(PacketIndex& index, const ByteSource& source, const Cancel* cancel) {
  try {
    read_first_picture(index, source, cancel);
    return true;
  } catch (const VideoError& error) {
    if (error.kind() != VideoErrorKind::damaged && error.kind() != VideoErrorKind::index_mismatch) throw;
    return false;
  }
}

// Throws where no frame of this pixel format can be converted: no sample would ever load.
void check_pixel_format(const StreamInfo& stream, const std::string& path) {
  const AVPixelFormat format = av_get_pix_fmt(stream.pixel_format.c_str());
  if (format == AV_PIX_FMT_NONE || can_convert(format)) return;
  throw VideoError(VideoErrorKind::unsupported, path, -1,
                   "its pixel format '" + stream.pixel_format + "' is not supported; re-encode it as yuv420p");
}

}  // namespace

static void check_index(const PacketIndex& index, const ByteSource& source) {
  source.check_unchanged();
  if (index.num_frames() == 0) throw VideoError(VideoErrorKind::unreadable, source.name(), -1, "none of its frames can be decoded");
  if (index.stream.coded_width <= 0 || index.stream.coded_height <= 0) {
    throw VideoError(VideoErrorKind::unreadable, source.name(), -1, "its picture size is not stated and its first frame is damaged");
  }
  check_limits(index, source.name());
  check_pixel_format(index.stream, source.name());
}

PacketIndex index_video(const ByteSource& source, int stream, IndexDepth depth, const Cancel* cancel) {
  if (depth == IndexDepth::tables) {
    std::optional<PacketScan> listed = scan_tables(source, stream, cancel);
    const bool is_told_by_headers = listed && has_first_header(listed->index, source, cancel);
    if (is_told_by_headers) listed->index.is_first_picture_seen = std::make_shared<std::atomic<bool>>(false);
    if (is_told_by_headers || (listed && has_first_picture(listed->index, source, cancel))) {
      check_index(listed->index, source);
      return std::move(listed->index);
    }
  }
  PacketScan scan = scan_packets(source, stream, cancel);
  PacketIndex& index = scan.index;
  bool is_listed = index.is_regular && index.num_frames() > 0 && depth != IndexDepth::decoded;
  if (is_listed) {
    try {
      read_first_picture(index, source, cancel);
    } catch (const VideoError& error) {
      if (error.kind() == VideoErrorKind::damaged) {
        if (!index.note.empty()) index.note += "; ";
        index.note += "its first frame is damaged";  // others may be intact
        if (!has_first_header(index, source, cancel)) index.note += "; size and colors are as the container states them";
      } else if (error.kind() == VideoErrorKind::index_mismatch) {
        is_listed = false;
      } else {
        throw;
      }
    }
  }
  if (!is_listed) {
    list_decoded_frames(scan, source, cancel);
    measure_timing(index, scan.container_fps, scan.last_duration);
  }
  check_index(index, source);
  return std::move(scan.index);
}

}  // namespace vidload
