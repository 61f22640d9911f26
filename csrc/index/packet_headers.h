// packet_headers: what the first bytes of a packet say about the picture in it, without decoding it: can decoding start here, may
// it be left out, does a frame come out, and where is it shown. Knows H.264, HEVC, VP8, VP9, AV1, MPEG-4 part 2, MPEG-1/2 and codecs whose
// every picture stands alone; the container's word counts for nothing. Of other codecs it knows nothing, and says so.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "index/h264_order.h"
#include "source/av_handles.h"

namespace vidload {

// How a codec says in which order its pictures are shown.
enum class OrderRule {
  as_coded,     // no picture is shown before one that was coded earlier
  order_count,  // by picture order count, from one reset to the next (H.264, HEVC)
  types,        // I and P are held back until the B pictures coded after them were shown (MPEG-1, 2 and 4)
  unknown,      // only a decode tells
};

constexpr int64_t kNoOrderCount = INT64_MIN;

struct PacketFacts {
  bool is_keyframe = false;             // a decoder may start here and get this frame and all that follow it in presentation order
  bool is_clean_start = false;          // and, at the start of a stream, nothing coded later is shown before it unless it is whole
  bool is_reference = true;             // other pictures may depend on it
  bool is_shown = true;                 // a frame comes out
  bool is_one_frame = true;             // as far as the header tells: not a single field, no second picture packed into it, coded at all
  int num_fields = 0;                   // H.264: coded pictures, a frame or a field each
  bool is_b = false;                    // OrderRule::types
  bool resets_order = false;            // OrderRule::order_count: counts begin anew here
  int64_t order_count = kNoOrderCount;  // OrderRule::order_count
  bool is_skipped_leading = false;      // HEVC RASL: no frame comes out where decoding started at the keyframe before it
  bool ends_sequence = false;           // the next picture begins a new sequence, whatever its header says
  bool has_right_checksum = false;      // FFV1: all slices have one, and it is theirs
  int temporal_layer = 0;               // HEVC: a picture that is no reference within its layer may still be one for higher layers
};

// What a stream says of itself in its packets, beside what its container says (extradata). A decoder remembers it beyond a flush.
enum class InbandHeaders : int32_t {
  none,      // nothing, or the same again
  complete,  // all that is needed, with every picture (JPEG with Huffman tables)
  differing  // something else: a decoder that has seen it is of no use for another start
};

// What there is of each packet: PacketHeadReader gives heads.
enum class PacketBytes { whole, heads };

// Reads the packets of one stream in decode order.
class PacketHeaderReader {
 public:
  explicit PacketHeaderReader(const AVCodecParameters& parameters, PacketBytes bytes = PacketBytes::whole);
  OrderRule order_rule() const { return order_rule_; }
  // `data` is followed by AV_INPUT_BUFFER_PADDING_SIZE readable bytes, as in an AVPacket.
  PacketFacts read(const uint8_t* data, int size);
  // Of the packets read so far.
  InbandHeaders inband_headers() const { return inband_headers_; }

 private:
  PacketFacts read_h264(const uint8_t* data, int size);
  PacketFacts read_hevc(const uint8_t* data, int size);
  PacketFacts read_vp8(const uint8_t* data, int size) const;
  PacketFacts read_vp9(const uint8_t* data, int size) const;
  PacketFacts read_av1(const uint8_t* data, int size);
  PacketFacts read_mpeg4(const uint8_t* data, int size);
  void read_mpeg4_layer(const uint8_t* data, int size);
  PacketFacts read_mpeg12(const uint8_t* data, int size);
  PacketFacts read_mjpeg(const uint8_t* data, int size);
  // Takes note of a header; whether it is one of the container's.
  bool note_header(const uint8_t* data, int size);
  void note_sequence(std::vector<uint8_t> sequence, PacketFacts& facts);
  void read_order_count(const uint8_t* data, int size, PacketFacts& facts);

  // Calls visit(payload, size) for each NAL unit, length-prefixed (mp4, Matroska) or with start codes (Annex B).
  template <typename Visit>
  void for_each_nal(const uint8_t* data, int size, Visit visit) const;

  AVCodecID codec_;
  OrderRule order_rule_ = OrderRule::unknown;
  std::vector<uint8_t> extradata_;
  int64_t num_packets_ = 0;  // before the one at hand
  InbandHeaders inband_headers_ = InbandHeaders::none;
  bool is_differing_in_force_ = false;       // a header that came in a packet and is not in the extradata holds until another replaces it
  std::optional<H264OrderCounter> counter_;  // of heads, where it knows enough: much cheaper than the parser
  UniqueAVCodecContext context_;             // of the parser that counts H.264's and HEVC's pictures
  UniqueAVCodecParserContext parser_;
  int nal_length_size_ = 0;  // 0: Annex B

  std::vector<uint8_t> sequence_;  // MPEG-1, 2 and 4: the header in force, as far as a change of it makes libavcodec begin anew
  bool is_low_delay_ = false;      // MPEG-2 and 4: it says, or lets libavcodec assume, that there are no B pictures
  int time_increment_bits_ = 0;    // MPEG-4; 0: not known

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
