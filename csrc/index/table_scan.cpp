// table_scan: an index from a container's own tables, without reading the media data. Note [Tables and what they are trusted with].
extern "C" {
#include <libavutil/intreadwrite.h>
}

#include <algorithm>

#include "base/error.h"
#include "base/limits.h"
#include "index/container_stream.h"
#include "index/frame_order.h"
#include "index/packet_head.h"
#include "index/packet_headers.h"
#include "index/packet_index.h"
#include "source/container.h"
#include "source/mp4_fragments.h"
#include "source/mp4_tables.h"
#include "source/remote_source.h"

namespace vidload {
namespace {

constexpr int64_t kSmallFile = 16 << 20;

bool is_known(AVCodecID codec) {
  switch (codec) {
    case AV_CODEC_ID_H264:
    case AV_CODEC_ID_HEVC:
    case AV_CODEC_ID_VP8:
    case AV_CODEC_ID_VP9:
    case AV_CODEC_ID_AV1:
    case AV_CODEC_ID_MPEG4: return true;
    default: return false;
  }
}

// Whether the table cuts the stream into parts that can be judged alone: it begins with a keyframe, times rise along the frames, and what
// is shown before a keyframe comes before it, or right behind it and is shown after the keyframe before. `order`: packets by time.
bool falls_into_groups(const PacketIndex& index, const std::vector<int32_t>& order, const std::vector<int32_t>& keyframes) {
  const auto& pts = index.pts;
  for (size_t i = 1; i < order.size(); ++i) {
    if (pts[size_t(order[i])] <= pts[size_t(order[i - 1])]) return false;
  }
  if (keyframes.empty() || keyframes[0] != 0 || order[0] != 0) return false;
  int64_t latest = INT64_MIN;  // of the packets before the one at hand
  for (size_t i = 0, key = 0; i < pts.size(); ++i) {
    if (key < keyframes.size() && size_t(keyframes[key]) == i) {
      if (latest >= pts[i]) return false;
      ++key;
    } else {
      const auto last = size_t(keyframes[key - 1]);
      if (pts[i] < pts[last]) {
        if (key < 2 || pts[i] < pts[size_t(keyframes[key - 2])]) return false;
        if (i != last + 1 && pts[i - 1] >= pts[last]) return false;
      }
    }
    latest = std::max(latest, pts[i]);
  }
  return true;
}

// Whether the keyframes that the table names are keyframes by their own headers, and nothing in them says that frames are not what the
// table makes of them.
bool are_keyframes(PacketIndex& index, const std::vector<int32_t>& keyframes, const ByteSource& source, const Cancel* cancel) {
  const UniqueAVCodecParameters parameters = codec_parameters(index.stream);
  const AVCodecID codec = parameters->codec_id;
  PacketHeaderReader headers(*parameters);
  PacketHeadReader head(source, index.stream);
  std::vector<ByteRange> heads;
  for (const int32_t key : keyframes)
    heads.push_back({index.offset[size_t(key)], index.offset[size_t(key)] + PacketHeadReader::kFirstRead});
  source.prefetch(std::move(heads));
  for (const int32_t key : keyframes) {
    if (cancel && cancel->is_set()) throw VideoError(VideoErrorKind::cancelled, source.name(), -1, "cancelled");
    const auto at = size_t(key);
    head.read(index.offset[at], index.size[at]);
    // Of VP9 only the first frame is looked at: what ends the head must not be taken for the list of frames that ends a packet.
    const PacketFacts facts = headers.read(head.data(), codec == AV_CODEC_ID_VP9 ? std::min(head.size(), 2) : head.size());
    if (!facts.is_keyframe || facts.ends_sequence || (key == 0 && !facts.is_clean_start)) return false;
    if (codec != AV_CODEC_ID_AV1 && (!facts.is_one_frame || !facts.is_shown)) return false;
    const bool has_leading = at + 1 < index.pts.size() && index.pts[at + 1] < index.pts[at];
    if (has_leading && facts.resets_order) return false;
    // Of an open GOP behind the end of a sequence the leading pictures are not shown.
    if (has_leading && codec == AV_CODEC_ID_HEVC &&
        ends_hevc_sequence(source, index.offset[at - 1] + index.size[at - 1], nal_length_bytes(index.stream))) {
      return false;
    }
  }
  index.stream.inband_headers = int(headers.inband_headers());
  return headers.inband_headers() != InbandHeaders::differing;
}

// Packets so small that they may hold no picture: all of them are read.
bool hold_frames(const PacketIndex& index, const ByteSource& source, const Cancel* cancel) {
  constexpr int kSmall = 24;
  const UniqueAVCodecParameters parameters = codec_parameters(index.stream);
  PacketHeaderReader headers(*parameters);
  uint8_t bytes[kSmall + AV_INPUT_BUFFER_PADDING_SIZE] = {};
  std::vector<ByteRange> small;
  for (size_t i = 0; i < index.size.size(); ++i) {
    if (index.size[i] <= kSmall) small.push_back({index.offset[i], index.offset[i] + index.size[i]});
  }
  source.prefetch(std::move(small));
  for (size_t i = 0; i < index.size.size(); ++i) {
    if (index.size[i] > kSmall) continue;
    if (cancel && cancel->is_set()) throw VideoError(VideoErrorKind::cancelled, source.name(), -1, "cancelled");
    std::fill(bytes, bytes + sizeof bytes, uint8_t{0});
    if (source.read(index.offset[i], bytes, index.size[i]) != index.size[i]) return false;
    const PacketFacts facts = headers.read(bytes, index.size[i]);
    if (!facts.is_one_frame || !facts.is_shown || facts.ends_sequence) return false;
  }
  return true;
}

// The heads of all packets, as a scan of the whole file would have them of the packets themselves: false where they do not give the table's
// order, one frame each.
bool read_all_heads(PacketIndex& index, const ByteSource& source, const Cancel* cancel) {
  const UniqueAVCodecParameters parameters = codec_parameters(index.stream);
  PacketHeaderReader headers(*parameters, PacketBytes::heads);
  PacketHeadReader head(source, index.stream);
  std::vector<PacketFacts> facts;
  facts.reserve(index.offset.size());
  for (size_t i = 0; i < index.offset.size(); ++i) {
    if (cancel && cancel->is_set()) throw VideoError(VideoErrorKind::cancelled, source.name(), -1, "cancelled");
    head.read(index.offset[i], index.size[i]);
    facts.push_back(headers.read(head.data(), head.size()));
  }
  const std::optional<std::vector<int32_t>> order = coded_frame_order(headers.order_rule(), facts);
  if (!order || *order != index.frame_packet || headers.inband_headers() == InbandHeaders::differing) return false;
  index.stream.inband_headers = int(headers.inband_headers());
  const std::vector<uint8_t> flags = packet_flags(facts);
  for (size_t i = 0; i < flags.size(); ++i) index.flags[i] = uint8_t((index.flags[i] & kContainerKey) | flags[i]);
  return true;
}

}  // namespace

std::optional<PacketScan> scan_blocks(const ByteSource& source, int stream, const Cancel* cancel);  // block_scan.cpp

// Puts the frames in order by the packets' times, and looks at the packets that prove or disprove it. `scan`: with pts, offset, size and
// flags of all packets.
static std::optional<PacketScan> list_frames(PacketScan scan, const Container& container, const ByteSource& source, const Cancel* cancel) {
  PacketIndex& index = scan.index;
  const size_t num_packets = index.pts.size();
  if (num_packets < 2) return std::nullopt;
  std::vector<int32_t> keyframes;
  for (size_t i = 0; i < num_packets; ++i) {
    if (index.flags[i] & kKeyframe) keyframes.push_back(int32_t(i));
  }
  index.frame_packet = order_by_time(index.pts);
  const std::vector<int32_t>& order = index.frame_packet;
  if (!falls_into_groups(index, order, keyframes)) return std::nullopt;

  const UniqueAVCodecParameters parameters = codec_parameters(index.stream);
  const OrderRule rule = PacketHeaderReader(*parameters).order_rule();
  if (rule == OrderRule::as_coded && !std::is_sorted(order.begin(), order.end())) return std::nullopt;
  if (rule == OrderRule::order_count && nal_length_bytes(index.stream) == 0) return std::nullopt;
  if (index.stream.codec == "h264" && !holds_no_fields(index.stream)) return std::nullopt;
  if (!are_keyframes(index, keyframes, source, cancel) || !hold_frames(index, source, cancel)) return std::nullopt;
  const bool is_small = source.size() <= kSmallFile;
  if (is_small && (nal_length_bytes(index.stream) == 0 || !read_all_heads(index, source, cancel))) return std::nullopt;

  index.is_provisional = true;
  index.has_headers = is_small;
  index.stream.reorder_depth = reorder_depth(order, num_packets);
  index.frame_pts.reserve(num_packets);
  for (const int32_t packet : order) index.frame_pts.push_back(index.pts[size_t(packet)]);
  scan.container_fps = stated_fps(container);
  measure_timing(index, scan.container_fps, scan.last_duration);
  return scan;
}

// What libavformat made of the headers: the stream, and the samples that are listed so far.
static std::vector<uint8_t> what_is_opened(const Container& container) {
  PacketIndex index;
  index.stream = stream_info(container);
  index.stream.average_fps = stated_fps(container);
#if LIBAVFORMAT_VERSION_MAJOR >= 59
  for (int i = 0; i < avformat_index_get_entries_count(container.stream()); ++i) {
    const AVIndexEntry* entry = avformat_index_get_entry(container.stream(), i);
    index.pts.push_back(entry->timestamp);
    index.offset.push_back(entry->pos);
    index.size.push_back(entry->size);
    index.flags.push_back(uint8_t(entry->flags));
  }
#endif
  return index.to_bytes();
}

// libavformat's packets of a file that it sees without its media: Note [Packets without media].
static std::optional<PacketScan> list_fragments(FragmentHeaders& headers, const std::vector<Mp4Track>& tracks, const ByteSource& source,
                                                int stream, const Cancel* cancel) {
  headers.fill_with(0xFF);
  const std::vector<uint8_t> seen = what_is_opened(Container(headers, stream, cancel));
  headers.fill_with(0);
  Container container(headers, stream, cancel);
  if (what_is_opened(container) != seen) return std::nullopt;
  AVFormatContext* const format = container.format();
  int num_videos = 0;
  for (unsigned i = 0; i < format->nb_streams; ++i) num_videos += format->streams[i]->codecpar->codec_type == AVMEDIA_TYPE_VIDEO;
  const auto is_plain = [&](const Mp4Track& track) { return int64_t{track.id} == int64_t{container.stream()->id} && track.is_plain; };
  if (num_videos != 1 || std::count_if(tracks.begin(), tracks.end(), is_plain) != 1) return std::nullopt;
  if (!is_known(container.stream()->codecpar->codec_id)) return std::nullopt;
  format->flags |= AVFMT_FLAG_NOPARSE;  // parsers look into the packets

  PacketScan scan = begin_scan(container, source);
  PacketIndex& index = scan.index;
  const VideoLimits limits = video_limits();
  const UniqueAVPacket packet(av_packet_alloc());
  if (!packet) throw std::bad_alloc();
  int64_t dts = INT64_MIN;
  while (container.read(packet.get())) {
    const bool has_times = packet->pts != AV_NOPTS_VALUE && packet->dts != AV_NOPTS_VALUE && packet->dts >= dts;
    if (!has_times || (packet->flags & (AV_PKT_FLAG_CORRUPT | AV_PKT_FLAG_DISCARD)) || packet->side_data_elems > 0 ||
        packet->size > limits.packet_bytes || int64_t(index.pts.size()) >= limits.packets ||
        !headers.is_media({packet->pos, packet->pos + packet->size})) {
      return std::nullopt;
    }
    dts = packet->dts;
    scan.last_duration = packet->duration;
    index.pts.push_back(packet->pts);
    index.offset.push_back(packet->pos);
    index.size.push_back(packet->size);
    index.flags.push_back(packet->flags & AV_PKT_FLAG_KEY ? kContainerKey | kKeyframe : 0);
  }
  if (container.end_error() != 0) return std::nullopt;
  return list_frames(std::move(scan), container, source, cancel);
}

static std::optional<PacketScan> scan_fragments(const Mp4Tables& tables, const ByteSource& source, int stream, const Cancel* cancel) {
  // Of these libavformat needs no packets to know the stream.
  const auto is_listed = [](const Mp4Track& track) {
    constexpr const char* kEntries[] = {"avc1", "avc3", "hvc1", "hev1", "av01", "vp08", "vp09"};
    const auto is_entry = [&](const char* entry) { return track.sample_entry == AV_RB32(entry); };
    return track.has_picture_size && std::any_of(std::begin(kEntries), std::end(kEntries), is_entry);
  };
  const auto is_video = [](const Mp4Track& track) { return track.is_video; };
  const auto video = std::find_if(tables.tracks.begin(), tables.tracks.end(), is_video);
  if (std::count_if(tables.tracks.begin(), tables.tracks.end(), is_video) != 1 || !is_listed(*video)) return std::nullopt;
  if (is_remote(source.name())) return std::nullopt;  // each fragment would be a request
  const std::unique_ptr<FragmentHeaders> headers = FragmentHeaders::read_all(source, cancel);
  if (!headers) return std::nullopt;
  try {
    return list_fragments(*headers, tables.tracks, source, stream, cancel);
  } catch (const VideoError& error) {
    if (error.kind() == VideoErrorKind::cancelled) throw;
    return std::nullopt;  // of the whole file it can be said better
  }
}

static std::optional<PacketScan> scan_mp4_tables(const ByteSource& source, int stream, const Cancel* cancel) {
  const std::optional<Mp4Tables> tables = read_mp4_tables(source);
  if (!tables) return std::nullopt;
  if (tables->is_fragmented) return scan_fragments(*tables, source, stream, cancel);
#if LIBAVFORMAT_VERSION_MAJOR < 59
  return std::nullopt;  // libavformat does not hand out its tables
#else
  const PartlyHeld held(source, tables->moov, tables->bytes);
  constexpr int kReadSize = 2048;  // as much as libavformat wants to see to know the format
  Container container(held, stream, cancel, kReadSize);
  AVStream* const of = container.stream();
  const auto has_id = [&](const Mp4Track& track) { return int64_t{track.id} == int64_t{of->id}; };
  const auto track = std::find_if(tables->tracks.begin(), tables->tracks.end(), has_id);
  const int num_entries = avformat_index_get_entries_count(of);
  if (std::count_if(tables->tracks.begin(), tables->tracks.end(), has_id) != 1 || !track->is_plain || num_entries < 2 ||
      num_entries != track->num_samples || num_entries > video_limits().packets || !is_known(of->codecpar->codec_id)) {
    return std::nullopt;
  }

  PacketScan scan = begin_scan(container, source);
  PacketIndex& index = scan.index;
  const VideoLimits limits = video_limits();
  const auto num_packets = size_t(num_entries);
  index.pts.resize(num_packets), index.offset.resize(num_packets), index.size.resize(num_packets), index.flags.resize(num_packets);
  int64_t dts = INT64_MIN;
  for (size_t i = 0; i < num_packets; ++i) {
    const AVIndexEntry* entry = avformat_index_get_entry(of, int(i));
    if (!entry || entry->timestamp < dts || (entry->flags & AVINDEX_DISCARD_FRAME) || entry->size <= 0 || entry->pos < 0 ||
        entry->pos > source.size() - entry->size || entry->size > limits.packet_bytes) {
      return std::nullopt;
    }
    dts = entry->timestamp;
    index.pts[i] = dts + (track->composition_offset.empty() ? 0 : track->composition_offset[i]);
    index.offset[i] = entry->pos;
    index.size[i] = entry->size;
    if (entry->flags & AVINDEX_KEYFRAME) index.flags[i] = kContainerKey | kKeyframe;
  }
  return list_frames(std::move(scan), container, source, cancel);
#endif
}

std::optional<PacketScan> scan_tables(const ByteSource& source, int stream, const Cancel* cancel) {
  if (std::optional<PacketScan> scan = scan_blocks(source, stream, cancel)) return scan;
  return scan_mp4_tables(source, stream, cancel);
}

// Note [Tables and what they are trusted with]
// The tables of an mp4 say where each packet lies, when it is shown, and which are keyframes; libavformat hands out its own reading of
// them, edit lists applied, all but the composition offsets. They are often wrong, so they are believed in steps:
// - Tables that are anything but plain (several sample descriptions, edits that hide frames, offsets that are negative, packets
//   beyond the file's end, times that do not rise or keyframes that do not part the stream): the whole file is read (packet_scan).
// - Of every keyframe the header is read: it must be one, and bring no parameter sets that differ from the container's. So are packets so
//   small that they may hold no picture.
// - Size, pixel format and colors are what the decoder reads from the headers of the first picture. It is decoded before
//   the first span that does not begin with it: where no frame comes out of it, frames are counted from another.
// - Of a small file the head of every packet is read, so that what a damaged packet does to the frames behind it is known from the start;
//   if heads do not say enough (codecs without NAL units), the whole file.
// - Before a span of a larger file is decoded, the headers of all packets of its GOP are read (decode/span_check): each must hold one
//   frame, and their order must be that of the times. What may be left out is known from then on.
// - The decoder compares what comes out with the index, as ever.
// Of a fragmented file libavformat's packets take the place of its table: Note [Packets without media].
// Matroska files have no table of their packets, but their blocks can be walked, and the first bytes of each packet come with its header:
// there the codec's headers are all known (block_scan), and what is left for later is the checksum of the clusters that are decoded.
// Where any of this fails, the file is read as a whole, and that index takes the place of this one. What is left is, in a
// larger file, a packet that gives no frame, or two, in a GOP that nobody has asked for yet: until then frames behind it are counted as the
// table counts them.

// Note [Packets without media]
// What a fragmented mp4's packets are is spread over the moov, edit lists among it, sidx boxes and the headers of all fragments, and how
// libavformat puts that together (times where tfdt is missing, runs that overlap, offsets that are negative) differs from version to
// version. So it is asked itself: it demuxes the file as in packet_scan, but of a FragmentHeaders, in which the media is zeros. The packets
// then have the right times, places and sizes, and no contents. That holds where nothing looks into a packet (parsers are switched off, and
// codecs whose parameters libavformat takes from packets are left to packet_scan), and no box leads it to read on into the media: of
// fragments FragmentHeaders lets only boxes pass that have room for what they say, and of the moov libavformat must make the same where
// the media is ones.

}  // namespace vidload
