// A small packet index and wanted frames: every wanted frame is in exactly one span, which starts where decoding can start and sends its
// packets in increasing order.
// Input: number of packets, number of wanted frames, whether the index is regular; then a byte of flags and a byte of pts per packet; then
// the wanted frames.
#include <algorithm>
#include <set>

#include "fuzz/target.h"
#include "plan/decode_plan.h"

using namespace vidload;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  PacketIndex index;
  const int num_packets = 1 + input.take<uint8_t>() % 64, num_wanted = 1 + input.take<uint8_t>() % 16;
  index.is_regular = input.take<uint8_t>() % 2 == 0;
  std::vector<int32_t> shown;
  for (int i = 0; i < num_packets; ++i) {
    auto flags = uint8_t(input.take<uint8_t>() & kAllPacketFlags);
    if (i == 0 && index.is_regular) flags = uint8_t((flags | kKeyframe) & ~kHidden);
    if (flags & kKeyframe) flags &= uint8_t(~kDroppable);  // later packets depend on where decoding starts
    index.flags.push_back(flags);
    index.pts.push_back(input.take<uint8_t>());
    index.offset.push_back(100 * i);
    index.size.push_back(100);
    if (!(index.flags.back() & (kHidden | kDiscard))) shown.push_back(i);
  }
  std::stable_sort(shown.begin(), shown.end(), [&](int32_t a, int32_t b) { return index.pts[size_t(a)] < index.pts[size_t(b)]; });
  if (shown.empty()) return 0;
  index.frame_packet = shown;
  for (const int32_t packet : shown) index.frame_pts.push_back(index.pts[size_t(packet)]);
  std::vector<int64_t> wanted;
  for (int i = 0; i < num_wanted; ++i) wanted.push_back(input.take<uint8_t>() % index.num_frames());

  const DecodePlan plan = decode_plan(index, wanted.data(), int64_t(wanted.size()));
  std::multiset<int32_t> found;
  for (const Span& span : plan.spans) {
    fuzz::expect(!span.packets.empty() && std::is_sorted(span.packets.begin(), span.packets.end()), "packets are sent in increasing order");
    fuzz::expect(std::adjacent_find(span.packets.begin(), span.packets.end()) == span.packets.end(), "no packet is sent twice");
    fuzz::expect(span.packets.front() == 0 || (index.flags[size_t(span.packets.front())] & kKeyframe), "a span starts at a keyframe");
    for (const WantedFrame& frame : span.wanted) {
      fuzz::expect(index.frame_packet[size_t(frame.frame)] == frame.packet, "a frame comes from its packet");
      fuzz::expect(std::binary_search(span.packets.begin(), span.packets.end(), frame.packet), "a wanted frame's packet is sent");
      found.insert(frame.frame);
    }
  }
  fuzz::expect(found.size() == std::set<int64_t>(wanted.begin(), wanted.end()).size(), "nothing else is in a span");
  for (const int64_t frame : wanted) fuzz::expect(found.count(int32_t(frame)) == 1, "each wanted frame is in one span");
  return 0;
}
