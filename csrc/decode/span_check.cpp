#include "decode/span_check.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "decode/first_picture.h"
#include "index/frame_order.h"
#include "index/packet_head.h"
#include "index/packet_headers.h"
#include "index/stream_info.h"
#include "source/matroska_checksums.h"

namespace vidload {
namespace {

struct Contradiction {
  const char* what;
};

// Up to the keyframe behind `packet`, and the pictures behind that which are shown before it: no other can be shown among those up to here.
int32_t end_of_group(const PacketIndex& index, int32_t packet) {
  const int32_t num_packets = index.num_packets();
  const auto is_keyframe = [&](int32_t at) { return (index.flags[size_t(at)] & kKeyframe) != 0; };
  int32_t end = packet + 1;
  while (end < num_packets && !is_keyframe(end)) ++end;
  if (end == num_packets) return end;
  const int64_t key_pts = index.pts[size_t(end++)];
  while (end < num_packets && index.pts[size_t(end)] < key_pts) ++end;
  return end;
}

// The packets from `start` on in the order of their counts; throws Contradiction.
std::vector<int32_t> order_by_count(const std::vector<PacketFacts>& facts) {
  std::vector<int32_t> order(facts.size()), sequence(facts.size());
  std::iota(order.begin(), order.end(), 0);
  size_t key = 0;
  for (size_t i = 0; i < facts.size(); ++i) {
    if (facts[i].is_keyframe) key = i;
    if (facts[i].order_count == kNoOrderCount) throw Contradiction{"has no order count"};
    if (facts[i].is_skipped_leading && facts[key].resets_order) throw Contradiction{"may not be shown"};
    if (i > 0) sequence[i] = sequence[i - 1] + int32_t(facts[i].resets_order);
  }
  const auto is_before = [&](int32_t a, int32_t b) {
    const auto x = size_t(a), y = size_t(b);
    return sequence[x] != sequence[y] ? sequence[x] < sequence[y] : facts[x].order_count < facts[y].order_count;
  };
  std::stable_sort(order.begin(), order.end(), is_before);
  for (size_t i = 1; i < order.size(); ++i) {
    if (!is_before(order[i - 1], order[i])) throw Contradiction{"has the order count of another"};
  }
  return order;
}

// The packets [start, start + facts.size()) in the order in which they are shown. Throws Contradiction.
std::vector<int32_t> shown_order(OrderRule rule, std::vector<PacketFacts>& facts) {
  for (const PacketFacts& fact : facts) {
    if (!fact.is_one_frame) throw Contradiction{"is not one frame"};
    if (!fact.is_shown) throw Contradiction{"is not shown"};
    if (fact.ends_sequence) throw Contradiction{"ends a sequence"};
  }
  if (!facts[0].is_keyframe) throw Contradiction{"is no keyframe"};
  if (rule == OrderRule::order_count) return order_by_count(facts);
  const std::optional<std::vector<int32_t>> order = coded_frame_order(rule, facts);
  if (!order) throw Contradiction{"cannot be put in order"};
  return *order;
}

[[noreturn]] void fail(const PacketReader& reader, const std::string& what) {
  throw VideoError(VideoErrorKind::index_mismatch, reader.name(), -1, "is not what its container's tables say: " + what);
}

void check_checksums(const Span& span, const PacketReader& reader) {
  const PacketIndex& index = reader.index();
  for (const ByteRange& range : index.checksummed) {
    const auto is_within = [&](int32_t packet) {
      return index.offset[size_t(packet)] >= range.begin && index.offset[size_t(packet)] < range.end;
    };
    if (std::any_of(span.packets.begin(), span.packets.end(), is_within) &&
        ClusterChecksums::is_damaged(reader.source(), range, reader.cancel())) {
      fail(reader, "a cluster fails its checksum");
    }
  }
}

// Leaves out what the headers of the packets show to be droppable, and gives how many those were.
int64_t check_headers(Span& span, PacketReader& reader) {
  const PacketIndex& index = reader.index();
  const int32_t start = span.packets.front(), last = span.packets.back();
  const UniqueAVCodecParameters parameters = codec_parameters(index.stream);
  PacketHeaderReader headers(*parameters);
  const int32_t end = headers.order_rule() == OrderRule::as_coded ? last + 1 : end_of_group(index, last);

  // Those that will be decoded are read whole, to be there when they are; of the others the head is enough where codecs have one.
  constexpr int64_t kMostAtOnce = 4 << 20;  // what the reader holds
  const bool has_heads = nal_length_bytes(index.stream) > 0;
  const int64_t span_bytes = index.offset[size_t(last)] + index.size[size_t(last)] - index.offset[size_t(start)];
  const int32_t end_of_whole = !has_heads ? end : span_bytes <= kMostAtOnce ? last + 1 : start;
  std::vector<PacketFacts> facts;
  std::vector<int32_t> whole(size_t(end_of_whole - start));
  std::iota(whole.begin(), whole.end(), start);
  const UniqueAVPacket packet(av_packet_alloc());
  if (!packet) throw std::bad_alloc();
  reader.begin(whole);
  for (size_t i = 0; i < whole.size(); ++i) {
    reader.read(i, packet.get());
    facts.push_back(headers.read(packet->data, packet->size));
  }
  PacketHeadReader head(reader.source(), index.stream);
  for (int32_t at = end_of_whole; at < end; ++at) {
    head.read(index.offset[size_t(at)], index.size[size_t(at)]);
    facts.push_back(headers.read(head.data(), head.size()));
  }

  if (headers.inband_headers() == InbandHeaders::differing) fail(reader, "its packets bring other headers");
  std::vector<int32_t> order;
  try {
    order = shown_order(headers.order_rule(), facts);
  } catch (const Contradiction& contradiction) {
    fail(reader, "one of the packets " + std::to_string(start) + " to " + std::to_string(end - 1) + " " + contradiction.what);
  }
  for (size_t i = 1; i < order.size(); ++i) {
    const int32_t earlier = start + order[i - 1], later = start + order[i];
    if (index.pts[size_t(earlier)] >= index.pts[size_t(later)]) {
      fail(reader, "packet " + std::to_string(earlier) + " is shown before packet " + std::to_string(later));
    }
  }

  const int top_layer = std::max_element(facts.begin(), facts.end(), [](const auto& a, const auto& b) {
                          return a.temporal_layer < b.temporal_layer;
                        })->temporal_layer;
  const auto is_left_out = [&](int32_t at) {
    const PacketFacts& fact = facts[size_t(at - start)];
    if (fact.is_reference || fact.temporal_layer != top_layer) return false;
    return std::none_of(span.wanted.begin(), span.wanted.end(), [at](const WantedFrame& wanted) { return wanted.packet == at; });
  };
  const size_t num_before = span.packets.size();
  span.packets.erase(std::remove_if(span.packets.begin(), span.packets.end(), is_left_out), span.packets.end());
  return int64_t(num_before - span.packets.size());
}

// Decodes the first picture where nobody has, and the plan will not.
void check_first_picture(const DecodePlan& plan, PacketReader& reader) {
  const PacketIndex& index = reader.index();
  if (!index.is_first_picture_seen || *index.is_first_picture_seen) return;
  if (!plan.spans.empty() && plan.spans.front().packets.front() == 0) return;
  StreamInfo seen = index.stream;
  try {
    decode_first_picture(reader, seen);
  } catch (const VideoError& error) {
    if (error.kind() != VideoErrorKind::damaged) throw;  // others may be intact
  }
  if (!have_same_parameters(seen, index.stream)) fail(reader, "its first picture is not what its headers say");
  *index.is_first_picture_seen = true;
}

}  // namespace

int64_t check_span(Span& span, PacketReader& reader) {
  if (!reader.index().is_provisional) return 0;
  check_checksums(span, reader);
  return reader.index().has_headers ? 0 : check_headers(span, reader);
}

void check_plan(DecodePlan& plan, PacketReader& reader) {
  if (!reader.index().is_provisional) return;
  check_first_picture(plan, reader);
  plan.num_decoded = plan.bytes_read = 0;
  for (Span& span : plan.spans) {
    plan.num_dropped += check_span(span, reader);
    plan.num_decoded += int64_t(span.packets.size());
    for (const int32_t packet : span.packets) plan.bytes_read += reader.index().size[size_t(packet)];
  }
}

}  // namespace vidload
