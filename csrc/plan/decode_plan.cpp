#include "plan/decode_plan.h"

#include <algorithm>

#include "base/error.h"

namespace vidload {
namespace {

// Where decoding must start to show the frame of `packet`: the last keyframe at or before it in decode order that is not shown after
// it. A picture decoded after a keyframe but shown before it (a leading picture of an open GOP) may depend on what came earlier.
int32_t start_of(const PacketIndex& index, const std::vector<int32_t>& keyframes, int32_t packet) {
  auto at = std::upper_bound(keyframes.begin(), keyframes.end(), packet);
  while (at != keyframes.begin()) {
    --at;
    if (index.pts[size_t(*at)] <= index.pts[size_t(packet)]) return *at;
  }
  return 0;
}

// In an irregular stream a frame may need packets after its own (a second field, a packed B frame): all up to the next one that
// gives a frame.
int32_t end_of(const PacketIndex& index, int32_t packet, const std::vector<bool>& gives_frame) {
  if (index.is_regular) return packet + 1;
  int32_t end = packet + 1;
  while (end < index.num_packets() && !gives_frame[size_t(end)]) ++end;
  return end;
}

}  // namespace

DecodePlan decode_plan(const PacketIndex& index, const int64_t* frames, int64_t num_wanted) {
  std::vector<WantedFrame> wanted;
  wanted.reserve(size_t(num_wanted));
  for (int64_t i = 0; i < num_wanted; ++i) {
    if (frames[i] < 0 || frames[i] >= index.num_frames()) {
      throw Error("frame index " + std::to_string(frames[i]) + " is out of range [0, " + std::to_string(index.num_frames()) + ")");
    }
    wanted.push_back({index.frame_packet[size_t(frames[i])], int32_t(frames[i])});
  }
  std::sort(wanted.begin(), wanted.end(),
            [](const WantedFrame& a, const WantedFrame& b) { return a.packet != b.packet ? a.packet < b.packet : a.frame < b.frame; });
  wanted.erase(std::unique(wanted.begin(), wanted.end(), [](const WantedFrame& a, const WantedFrame& b) { return a.frame == b.frame; }),
               wanted.end());

  std::vector<bool> gives_frame;
  if (!index.is_regular) {
    gives_frame.resize(size_t(index.num_packets()));
    for (const int32_t packet : index.frame_packet) gives_frame[size_t(packet)] = true;
  }

  std::vector<int32_t> keyframes;
  for (int32_t packet = 0; packet < index.num_packets(); ++packet) {
    if (index.flags[size_t(packet)] & kKeyframe) keyframes.push_back(packet);
  }

  // Frames that start at the same keyframe share a span. Leading pictures start earlier than frames decoded before them may, so
  // the starts are sorted too.
  struct Start {
    int32_t start;
    WantedFrame frame;
  };
  std::vector<Start> starts;
  starts.reserve(wanted.size());
  for (const WantedFrame& frame : wanted) starts.push_back({start_of(index, keyframes, frame.packet), frame});
  std::stable_sort(starts.begin(), starts.end(), [](const Start& a, const Start& b) { return a.start < b.start; });

  DecodePlan plan;
  size_t next = 0;
  while (next < starts.size()) {
    Span span;
    const int32_t start = starts[next].start;
    while (next < starts.size() && starts[next].start == start) span.wanted.push_back(starts[next++].frame);
    const int32_t end = end_of(index, span.wanted.back().packet, gives_frame);
    size_t next_wanted = 0;
    for (int32_t packet = start; packet < end; ++packet) {
      while (next_wanted < span.wanted.size() && span.wanted[next_wanted].packet < packet) ++next_wanted;
      const bool is_wanted = next_wanted < span.wanted.size() && span.wanted[next_wanted].packet == packet;
      if (index.is_regular && (index.flags[size_t(packet)] & kDroppable) && !is_wanted) {
        ++plan.num_dropped;
        continue;
      }
      span.packets.push_back(packet);
      plan.bytes_read += index.size[size_t(packet)];
    }
    plan.num_decoded += int64_t(span.packets.size());
    plan.spans.push_back(std::move(span));
  }
  plan.num_skipped = index.num_packets();
  int32_t counted_to = 0;  // spans may overlap (leading pictures); a packet is skipped when no span covers it
  for (const Span& span : plan.spans) {
    const int32_t begin = std::max(counted_to, span.packets.front());
    const int32_t end = span.packets.back() + 1;
    if (end > begin) plan.num_skipped -= end - begin;
    counted_to = std::max(counted_to, end);
  }
  return plan;
}

}  // namespace vidload
