// block_scan: an index of a Matroska or WebM file from the headers of its blocks and the first bytes of each packet.
#include <algorithm>
#include <cstring>

#include "base/limits.h"
#include "index/container_stream.h"
#include "index/frame_order.h"
#include "index/packet_head.h"
#include "index/packet_headers.h"
#include "index/packet_index.h"
#include "source/container.h"
#include "source/matroska_blocks.h"
#include "source/recent_bytes.h"

namespace vidload {
namespace {

// What the packets of one stream say at their beginning, where that is all that must be known of them.
class HeadFacts {
 public:
  HeadFacts(const ByteSource& source, const StreamInfo& stream, const AVCodecParameters& parameters)
      : source_(source),
        codec_(parameters.codec_id),
        nal_length_size_(nal_length_bytes(stream)),
        headers_(parameters, PacketBytes::heads),
        head_(source, stream) {}

  bool read(const MatroskaBlock& block) {
    const bool is_vp9 = codec_ == AV_CODEC_ID_VP9;
    head_.read(block.offset, block.size);
    uint8_t last = 0;
    if (is_vp9 && source_.read(block.offset + block.size - 1, &last, 1) != 1) return false;
    if (is_vp9 && (last & 0xE0) == 0xC0) {  // perhaps several frames, which are listed at the end (VP9 annex B)
      whole_.assign(size_t(block.size) + AV_INPUT_BUFFER_PADDING_SIZE, 0);
      if (source_.read(block.offset, whole_.data(), block.size) != block.size) return false;
      facts_.push_back(headers_.read(whole_.data(), block.size));
    } else {
      facts_.push_back(headers_.read(head_.data(), is_vp9 ? std::min(head_.size(), 2) : head_.size()));
    }
    // Of the leading pictures of an open GOP behind the end of a sequence there are no frames.
    const bool is_checked = codec_ == AV_CODEC_ID_HEVC && facts_.back().is_keyframe && facts_.size() > 1;
    const bool is_right = !is_checked || !ends_hevc_sequence(source_, end_of_last_, nal_length_size_);
    end_of_last_ = block.offset + block.size;
    return is_right;
  }

  PacketHeaderReader& headers() { return headers_; }
  std::vector<PacketFacts>& facts() { return facts_; }

 private:
  const ByteSource& source_;
  const AVCodecID codec_;
  const int nal_length_size_;
  PacketHeaderReader headers_;
  PacketHeadReader head_;
  std::vector<PacketFacts> facts_;
  std::vector<uint8_t> whole_;
  int64_t end_of_last_ = 0;
};

bool is_told_by_heads(const StreamInfo& stream) {
  if (stream.codec == "h264") return nal_length_bytes(stream) > 0 && holds_no_fields(stream);
  if (stream.codec == "hevc") return nal_length_bytes(stream) > 0;
  return stream.codec == "vp8" || stream.codec == "vp9";
}

}  // namespace

std::optional<PacketScan> scan_blocks(const ByteSource& source, int stream, const Cancel* cancel) {
  constexpr uint8_t kMagic[4] = {0x1A, 0x45, 0xDF, 0xA3};
  constexpr int kReadSize = 2048;  // as much as libavformat wants to see to know the format
  uint8_t magic[4] = {}, last = 0;
  if (source.read(0, magic, 4) != 4 || std::memcmp(magic, kMagic, 4) != 0) return std::nullopt;
  if (source.read(source.size() - 1, &last, 1) != 1) return std::nullopt;  // shorter than its size: a whole scan tells where it ends
  const RecentBytes recent(source);
  Container container(recent, stream, cancel, kReadSize);
  PacketScan scan = begin_scan(container, source);
  PacketIndex& index = scan.index;
  if (!is_told_by_heads(index.stream)) return std::nullopt;

  HeadFacts heads(recent, index.stream, *container.stream()->codecpar);
  const VideoLimits limits = video_limits();
  const auto clusters = list_matroska_blocks(recent, cancel, [&](const MatroskaBlock& block) {
    if (block.size > limits.packet_bytes || int64_t(index.pts.size()) >= limits.packets) return false;
    index.pts.push_back(block.time);
    index.offset.push_back(block.offset);
    index.size.push_back(block.size);
    index.flags.push_back(block.is_keyframe ? kContainerKey : 0);
    return heads.read(block);
  });
  if (!clusters || index.pts.size() < 2) return std::nullopt;

  std::vector<PacketFacts>& facts = heads.facts();
  const OrderRule rule = heads.headers().order_rule();
  const std::optional<std::vector<int32_t>> order = coded_frame_order(rule, facts);
  if (!order || heads.headers().inband_headers() == InbandHeaders::differing) return std::nullopt;
  index.stream.inband_headers = int(heads.headers().inband_headers());
  index.stream.reorder_depth = reorder_depth(*order, index.pts.size());
  const std::vector<uint8_t> flags = packet_flags(facts);
  for (size_t i = 0; i < flags.size(); ++i) index.flags[i] |= flags[i];
  index.frame_packet = *order;
  for (const int32_t packet : *order) {
    if (!index.frame_pts.empty() && index.frame_pts.back() >= index.pts[size_t(packet)]) return std::nullopt;
    index.frame_pts.push_back(index.pts[size_t(packet)]);
  }
  if (index.frame_pts.size() < 2) return std::nullopt;
  index.is_provisional = true;
  index.checksummed = *clusters;
  scan.container_fps = stated_fps(container);
  measure_timing(index, scan.container_fps, scan.last_duration);
  return scan;
}

}  // namespace vidload
