// nal_check: damage of H.264 or HEVC that a decoder may pass over. See Note [Forbidden bytes] and Note [Lost pictures].
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
}

#include <cstdint>
#include <optional>

#include "index/h264_order.h"
#include "index/packet_index.h"

namespace vidload {

// How packets of a stream hold NAL units: the size of their length fields, 0 for start codes, -1 for other codecs.
int nal_length_size(const StreamInfo& stream);

// Whether a packet holds bytes that no encoder may write. `length_size`: as above, not negative.
bool has_forbidden_bytes(const uint8_t* data, int size, int length_size);

// Whether libavcodec says of a frame that it is damaged. H.264 sets AV_FRAME_FLAG_CORRUPT on every picture drained after an open GOP's
// keyframe, also on right ones, so it is believed of HEVC alone.
bool is_damaged(const AVFrame& frame, AVCodecID codec);

// Tells of the packets of one span, in decode order, whether pictures were lost before them. See Note [Lost pictures].
class LostPictures {
 public:
  explicit LostPictures(const StreamInfo& stream);
  void begin(int32_t first_packet);
  // Before a packet is given to the decoder.
  void watch(const uint8_t* data, int size);
  // After it was decoded. `is_keyframe`: pictures before it do not matter to it. Tells of packets that were passed over, too.
  bool were_before(int32_t packet, bool is_keyframe);

 private:
  const int length_size_;
  const bool is_h264_, is_hevc_;
  std::optional<H264Sequence> stated_;    // H.264: the container's
  std::optional<H264Sequence> sequence_;  // that, or the last that came in a packet
  int32_t first_ = 0;
  int made_up_ = 0;
  // Of the packet, and of the last one with a slice.
  int64_t frame_num_ = -1, last_frame_num_ = -1;
  bool is_reference_ = false, was_reference_ = false;
  bool counts_references_ = false;  // H.264: seen to count these alone, as it should
};

}  // namespace vidload
