// packet_scan: one pass over a container's packets. Notes where each lies in the file (found again in the file's bytes, so that later
// reads need no demuxer), its pts, and what packet_headers can tell of it; then puts the frames into presentation order.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <queue>

extern "C" {
#include <libavutil/display.h>
}

#include "base/error.h"
#include "base/limits.h"
#include "index/frame_order.h"
#include "index/packet_headers.h"
#include "index/packet_index.h"
#include "source/container.h"
#include "source/matroska_checksums.h"

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

// Where the payload lies at or shortly after `position` (containers put a small header before it): its offset, or -1.
class PayloadFinder {
 public:
  explicit PayloadFinder(const ByteSource& source) : source_(source) {}
  int64_t find(int64_t position, const uint8_t* payload, int size) {
    if (position < 0) return -1;
    buffer_.resize(size_t(size) + kMaxHeader);
    const int64_t count = source_.read(position, buffer_.data(), int64_t(buffer_.size()));
    for (int64_t at = 0; at + size <= count; ++at) {
      if (buffer_[size_t(at)] == payload[0] && std::memcmp(buffer_.data() + at, payload, size_t(size)) == 0) return position + at;
    }
    return -1;
  }

 private:
  static constexpr int kMaxHeader = 64;
  const ByteSource& source_;
  std::vector<uint8_t> buffer_;
};

// The most frames that are decoded before, and shown after, any one frame.
int reorder_depth(const std::vector<int32_t>& order, size_t num_packets) {
  std::priority_queue<int64_t, std::vector<int64_t>, std::greater<int64_t>> waiting;  // a decoder holding back as few as it can
  size_t next = 0;
  int depth = 0;
  std::vector<int64_t> rank(num_packets, -1);
  for (size_t frame = 0; frame < order.size(); ++frame) rank[size_t(order[frame])] = int64_t(frame);
  for (const int64_t frame : rank) {
    if (frame < 0) continue;
    waiting.push(frame);
    while (!waiting.empty() && waiting.top() == int64_t(next)) waiting.pop(), ++next;
    depth = std::max(depth, int(waiting.size()));
  }
  return depth;
}

// Whether decode times leave room for packets that are not there, as in a recording that lost some. What a decoder makes of pictures that
// refer to them depends on all it has decoded, so nothing may be left out.
bool has_time_gaps(const std::vector<int64_t>& dts) {
  std::vector<int64_t> steps;
  for (size_t i = 1; i < dts.size(); ++i) {
    if (dts[i] != AV_NOPTS_VALUE && dts[i - 1] != AV_NOPTS_VALUE) steps.push_back(dts[i] - dts[i - 1]);
  }
  if (steps.empty()) return false;
  std::vector<int64_t> sorted = steps;
  const auto middle = sorted.begin() + std::ptrdiff_t(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return std::any_of(steps.begin(), steps.end(), [&](int64_t step) { return 2 * step > 3 * *middle; });
}

double median_frame_seconds(const PacketIndex& index) {
  std::vector<int64_t> steps;
  for (size_t i = 1; i < index.frame_pts.size(); ++i) steps.push_back(index.frame_pts[i] - index.frame_pts[i - 1]);
  if (steps.empty()) return 0;
  std::nth_element(steps.begin(), steps.begin() + int64_t(steps.size() / 2), steps.end());
  return double(steps[steps.size() / 2]) * index.stream.time_base.value();
}

}  // namespace

void measure_timing(PacketIndex& index, Rational container_fps, int64_t last_duration) {
  StreamInfo& stream = index.stream;
  if (index.num_frames() == 0) return;
  const double first = index.frame_pts_seconds(0), last = index.frame_pts_seconds(index.num_frames() - 1);
  double tail = median_frame_seconds(index);
  if (tail <= 0) tail = double(last_duration) * stream.time_base.value();
  if (tail <= 0 && container_fps.num > 0) tail = 1.0 / container_fps.value();
  stream.duration_seconds = last - first + tail;
  if (index.num_frames() > 1 && last > first) {
    const AVRational fps = av_d2q((index.num_frames() - 1) / (last - first), 1000000);
    stream.average_fps = {fps.num, fps.den};
  } else {
    stream.average_fps = container_fps;
  }
  // Ticks are often too coarse to give 30000/1001 back; the container's own figure is kept where the two agree.
  if (container_fps.num > 0 && std::abs(container_fps.value() / stream.average_fps.value() - 1) < 2e-3) {
    stream.average_fps = container_fps;
  }
}

PacketScan scan_packets(const ByteSource& source, int stream, const Cancel* cancel) {
  Container container(source, stream, cancel);
  PacketScan scan;
  PacketIndex& index = scan.index;
  index.stream = stream_info(container);
  index.stamp = source.stamp();
  const VideoLimits limits = video_limits();
  check_limit(int64_t{index.stream.coded_width} * index.stream.coded_height, limits.pixels, "pixels of a picture", "pixels", source.name());
  PacketHeaderReader headers(*container.stream()->codecpar);
  PayloadFinder finder(source);
  UniqueAVPacket packet(av_packet_alloc());
  if (!packet) throw std::bad_alloc();

  const bool is_matroska = index.stream.container.rfind("matroska", 0) == 0;
  const std::vector<ByteRange> damaged = is_matroska ? damaged_clusters(source, cancel) : std::vector<ByteRange>();
  const auto is_damaged = [&](int64_t position) {
    const auto after =
        std::upper_bound(damaged.begin(), damaged.end(), position, [](int64_t at, const ByteRange& range) { return at < range.begin; });
    return after != damaged.begin() && position < std::prev(after)->end;
  };
  std::vector<int64_t> dts;
  std::vector<PacketFacts> facts;
  bool has_all_pts = true, is_plain = true;
  while (container.read(packet.get())) {
    if ((packet->flags & AV_PKT_FLAG_CORRUPT) && avio_feof(container.format()->pb)) {
      index.is_cut_short = true;
      index.note = "the file is cut short; its incomplete last packet is left out";
      break;
    }
    check_limit(packet->size, limits.packet_bytes, "bytes of a packet", "packet_bytes", source.name());
    check_limit(int64_t(index.pts.size()) + 1, limits.packets, "packets", "packets", source.name());
    facts.push_back(headers.read(packet->data, packet->size));
    const int64_t found = finder.find(packet->pos, packet->data, packet->size);
    if (found < 0) index.is_byte_addressable = false;
    is_plain &= !(packet->flags & AV_PKT_FLAG_CORRUPT);  // cells of a transport stream are missing, or it was spliced
    for (int i = 0; i < packet->side_data_elems; ++i) {
      const AVPacketSideDataType type = packet->side_data[i].type;
      if (type == AV_PKT_DATA_NEW_EXTRADATA || type == AV_PKT_DATA_PARAM_CHANGE || type == AV_PKT_DATA_PALETTE) {
        index.is_byte_addressable = false;  // the decoder needs more than the payload
        is_plain &= index.pts.empty();      // and a decode that starts later lacks it
      }
    }
    has_all_pts &= packet->pts != AV_NOPTS_VALUE;
    scan.last_duration = packet->duration;
    index.pts.push_back(packet->pts);
    dts.push_back(packet->dts);
    index.offset.push_back(found >= 0 ? found : packet->pos);
    index.size.push_back(packet->size);
    index.flags.push_back(uint8_t((packet->flags & AV_PKT_FLAG_DISCARD ? kDiscard : 0) |
                                  (packet->flags & AV_PKT_FLAG_KEY ? kContainerKey : 0) | (is_damaged(packet->pos) ? kDamaged : 0)));
  }
  if (container.end_error() != 0) {
    index.is_cut_short = true;
    index.note = "its container is damaged; what follows packet " + std::to_string(index.pts.size()) + " cannot be read (" +
                 av_error_text(container.end_error()) + ")";
  }
  // Where one packet has right checksums, all have some.
  const auto is_right = [](const PacketFacts& packet) { return packet.has_right_checksum; };
  if (std::any_of(facts.begin(), facts.end(), is_right)) {
    for (size_t i = 0; i < facts.size(); ++i) {
      if (!is_right(facts[i])) index.flags[i] |= kDamaged;
    }
  }
  if (!damaged.empty() && index.note.empty()) {
    index.note = "clusters that fail their checksum: " + std::to_string(damaged.size());
  }
  source.check_unchanged();
  const size_t num_packets = index.pts.size();
  if (num_packets == 0) throw VideoError(VideoErrorKind::unreadable, source.name(), -1, "its video stream has no packets");
  if (!index.is_byte_addressable) {
    UniqueAVPacket again(av_packet_alloc());  // positions must be what the demuxer says, to find packets again after a seek
    if (!again) throw std::bad_alloc();
    Container second(source, index.stream.stream_number, cancel);
    for (size_t i = 0; i < num_packets && second.read(again.get()); ++i) index.offset[i] = again->pos;
  }

  // A stream cut out of a broadcast may carry each field in a packet of its own.
  const bool may_hold_fields = container.is_parsed() && index.stream.field_order > AV_FIELD_PROGRESSIVE;
  const std::optional<std::vector<int32_t>> order = coded_frame_order(headers.order_rule(), facts);
  index.stream.inband_headers = int(headers.inband_headers());
  scan.tells_start = headers.order_rule() != OrderRule::unknown;
  scan.part = time_parts(dts);
  const int top_layer = std::max_element(facts.begin(), facts.end(), [](const auto& a, const auto& b) {
                          return a.temporal_layer < b.temporal_layer;
                        })->temporal_layer;
  for (size_t i = 0; i < num_packets; ++i) {
    if (facts[i].is_keyframe) index.flags[i] |= kKeyframe;
    if (!facts[i].is_shown) index.flags[i] |= kHidden;
    if (!facts[i].is_reference && facts[i].temporal_layer == top_layer) index.flags[i] |= kDroppable;
  }
  if (order) {
    for (const int32_t frame : *order) {
      if (!(index.flags[size_t(frame)] & kDiscard)) index.frame_packet.push_back(frame);
    }
    index.stream.reorder_depth = std::min(16, reorder_depth(*order, num_packets));
  }
  const auto times_rise = [&] {
    const auto& frames = index.frame_packet;
    return std::adjacent_find(frames.begin(), frames.end(),
                              [&](int32_t a, int32_t b) { return index.pts[size_t(a)] >= index.pts[size_t(b)]; }) == frames.end();
  };
  const bool may_lack_packets = container.is_parsed() && has_time_gaps(dts);
  index.is_regular = order && is_plain && has_all_pts && !may_hold_fields && !may_lack_packets && times_rise();
  AVRational fps = container.stream()->avg_frame_rate;
  if (fps.num <= 0) fps = container.stream()->r_frame_rate;
  scan.container_fps = {fps.num, fps.den};
  if (!has_all_pts) {
    // AVI and raw streams: frames take the decode times in rising order, or are numbered when there is none.
    const bool has_dts = std::find(dts.begin(), dts.end(), AV_NOPTS_VALUE) == dts.end();
    if (!has_dts) std::iota(dts.begin(), dts.end(), 0);
    if (!has_dts) scan.part.assign(num_packets, 0);
    if (!has_dts) index.stream.time_base = fps.num > 0 ? Rational{fps.den, fps.num} : Rational{1, 25};
    index.pts = dts;
  }
  if (index.is_regular) {
    for (const int32_t frame : index.frame_packet) index.frame_pts.push_back(index.pts[size_t(frame)]);
    measure_timing(index, scan.container_fps, scan.last_duration);
  } else {
    index.frame_packet.clear();
  }
  return scan;
}

}  // namespace vidload
