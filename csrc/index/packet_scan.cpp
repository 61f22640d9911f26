// packet_scan: one pass over a container's packets. Notes where each lies in the file (found again in the file's bytes, so that later
// reads need no demuxer), its pts, and what packet_headers can tell of it; then puts the frames into presentation order.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "base/limits.h"
#include "index/container_stream.h"
#include "index/frame_order.h"
#include "index/packet_headers.h"
#include "index/packet_index.h"
#include "source/container.h"
#include "source/matroska_blocks.h"
#include "source/matroska_checksums.h"
#include "source/recent_bytes.h"

namespace vidload {
namespace {

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
  ClusterChecksums checksums(source, cancel);
  const RecentBytes read_once(source, [&](int64_t offset, const uint8_t* data, int64_t size) { checksums.pass(offset, data, size); });
  Container container(read_once, stream, cancel);
  PacketScan scan = begin_scan(container, source);
  PacketIndex& index = scan.index;
  const VideoLimits limits = video_limits();
  PacketHeaderReader headers(*container.stream()->codecpar);
  PayloadFinder finder(read_once);
  UniqueAVPacket packet(av_packet_alloc());
  if (!packet) throw std::bad_alloc();

  std::vector<int64_t> dts, position;  // in the demuxer's words
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
    position.push_back(packet->pos);
    index.offset.push_back(found);
    index.size.push_back(packet->size);
    index.flags.push_back(
        uint8_t((packet->flags & AV_PKT_FLAG_DISCARD ? kDiscard : 0) | (packet->flags & AV_PKT_FLAG_KEY ? kContainerKey : 0)));
  }
  if (container.end_error() != 0) {
    index.is_cut_short = true;
    index.note = "its container is damaged; what follows packet " + std::to_string(index.pts.size()) + " cannot be read (" +
                 av_error_text(container.end_error()) + ")";
  }
  if (!index.is_cut_short && is_matroska_cut_short(source)) {
    index.is_cut_short = true;
    index.note = "the file is cut short; what follows is missing";
  }
  const std::vector<ByteRange> damaged = checksums.finish();
  for (size_t i = 0; i < position.size() && !damaged.empty(); ++i) {
    const auto after =
        std::upper_bound(damaged.begin(), damaged.end(), position[i], [](int64_t at, const ByteRange& range) { return at < range.begin; });
    if (after != damaged.begin() && position[i] < std::prev(after)->end) index.flags[i] |= kDamaged;
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
  if (!index.is_byte_addressable) index.offset = position;  // by which packets are found again after a seek

  // A stream cut out of a broadcast may carry each field in a packet of its own.
  const bool may_hold_fields = container.is_parsed() && index.stream.field_order > AV_FIELD_PROGRESSIVE;
  const std::optional<std::vector<int32_t>> order = coded_frame_order(headers.order_rule(), facts);
  index.stream.inband_headers = int(headers.inband_headers());
  scan.tells_start = headers.order_rule() != OrderRule::unknown;
  scan.part = time_parts(dts);
  const std::vector<uint8_t> flags = packet_flags(facts);
  for (size_t i = 0; i < num_packets; ++i) index.flags[i] |= flags[i];
  if (order) {
    for (const int32_t frame : *order) {
      if (!(index.flags[size_t(frame)] & kDiscard)) index.frame_packet.push_back(frame);
    }
    index.stream.reorder_depth = reorder_depth(*order, num_packets);
  }
  const auto times_rise = [&] {
    const auto& frames = index.frame_packet;
    return std::adjacent_find(frames.begin(), frames.end(),
                              [&](int32_t a, int32_t b) { return index.pts[size_t(a)] >= index.pts[size_t(b)]; }) == frames.end();
  };
  const bool may_lack_packets = container.is_parsed() && has_time_gaps(dts);
  index.is_regular = order && is_plain && has_all_pts && !may_hold_fields && !may_lack_packets && times_rise();
  const Rational fps = scan.container_fps = stated_fps(container);
  if (!has_all_pts) {
    // AVI and raw streams: frames take the decode times in rising order, or are numbered when there is none.
    scan.stated_pts = index.pts;
    scan.stated_time_base = index.stream.time_base;
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
