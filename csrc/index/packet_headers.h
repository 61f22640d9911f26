// packet_headers: what the first bytes of a packet say about the picture in it, without decoding it: can decoding start here, may
// it be left out, does a frame come out. Knows H.264, HEVC, VP8, VP9, AV1, MPEG-4 part 2 and MPEG-1/2; for any other codec the
// container's keyframe flag is believed and nothing may be left out.
#pragma once

#include <cstdint>
#include <vector>

#include "source/av_handles.h"

namespace vidload {

struct PacketFacts {
  bool is_keyframe = false;  // a decoder may start here and get this frame and all that follow it in presentation order
  bool is_reference = true;  // other pictures may depend on it
  bool is_shown = true;      // a frame comes out
  int temporal_layer = 0;    // HEVC: a picture that is no reference within its layer may still be one for higher layers
};

class PacketHeaderReader {
 public:
  explicit PacketHeaderReader(const AVCodecParameters& parameters);
  PacketFacts read(const uint8_t* data, int size, bool container_says_keyframe);

 private:
  PacketFacts read_h264(const uint8_t* data, int size) const;
  PacketFacts read_hevc(const uint8_t* data, int size) const;
  PacketFacts read_vp8(const uint8_t* data, int size) const;
  PacketFacts read_vp9(const uint8_t* data, int size) const;
  PacketFacts read_av1(const uint8_t* data, int size);
  PacketFacts read_mpeg4(const uint8_t* data, int size, bool container_says_keyframe) const;
  PacketFacts read_mpeg12(const uint8_t* data, int size, bool container_says_keyframe) const;

  // Calls visit(payload, size) for each NAL unit, length-prefixed (mp4, Matroska) or with start codes (Annex B).
  template <typename Visit>
  void for_each_nal(const uint8_t* data, int size, Visit visit) const;

  AVCodecID codec_;
  int nal_length_size_ = 0;  // 0: Annex B

  // What AV1's sequence header says and its frame headers need.
  struct Av1Sequence {
    bool known = false;
    bool reduced_still_picture = false, frame_ids = false, decoder_model_info = false, equal_picture_interval = false;
    int frame_id_bits = 0, delta_frame_id_bits = 0, order_hint_bits = 0, buffer_removal_bits = 0;
    int screen_content_tools = 2, integer_mv = 2;  // 2: each frame says for itself
    struct OperatingPoint {
      int idc;
      bool has_decoder_model;
    };
    std::vector<OperatingPoint> operating_points;
  };
  void read_av1_sequence(const uint8_t* data, int size);
  Av1Sequence av1_;
};

}  // namespace vidload
