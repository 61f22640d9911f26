// decode_plan: the least decoding that yields the wanted frames.
// In: a PacketIndex and frame indices (any order, repeats allowed). Out: spans in file order, each naming the packets to send, from a
// keyframe on, and those whose frames are kept. Pure: no I/O, no FFmpeg calls.
#pragma once

#include <cstdint>
#include <vector>

#include "index/packet_index.h"

namespace vidload {

struct WantedFrame {
  int32_t packet;  // whose frame it is
  int32_t frame;   // frame index
};

// A run of packets that is decoded from a fresh decoder.
struct Span {
  std::vector<int32_t> packets;     // to send, in decode order; the first is where decoding starts
  std::vector<WantedFrame> wanted;  // in decode order, each frame once
};

struct DecodePlan {
  std::vector<Span> spans;
  int64_t num_decoded = 0;  // packets sent
  int64_t num_dropped = 0;  // packets within the spans left out because nothing depends on them
  int64_t num_skipped = 0;  // packets outside every span
  int64_t bytes_read = 0;   // sizes of the packets sent
};

// Whether `packet`, sent in a span that starts at `start`, is shown before it: a leading picture of an open GOP. It may lack what it was
// predicted from, and nothing wanted in the span depends on it.
inline bool is_leading(const PacketIndex& index, int32_t start, int32_t packet) {
  return packet > start && index.pts[size_t(packet)] < index.pts[size_t(start)];
}

// Throws Error when a frame index is not in [0, num_frames).
DecodePlan decode_plan(const PacketIndex& index, const int64_t* frames, int64_t num_wanted);

}  // namespace vidload
