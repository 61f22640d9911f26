// h264_order: the picture order counts of H.264 (8.2.1) from the first bytes of slices, where the headers in the container are plain.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace vidload {

// What a sequence parameter set says of slice headers (7.3.2.1.1).
struct H264Sequence {
  uint32_t id = 0;
  bool has_separate_planes = false;
  bool is_frames_only = false;  // never a field
  bool allows_gaps = false;     // gaps_in_frame_num_value_allowed_flag: pictures were left out on purpose
  uint32_t count_type = 0;      // pic_order_cnt_type
  int frame_num_bits = 0, count_bits = 0;
};

// Of a sequence parameter set, a NAL unit; empty where it has scaling lists or makes no sense.
std::optional<H264Sequence> h264_sequence_of(const uint8_t* nal, int num_bytes);

// Of the one sequence parameter set in an avcC; empty where there are several, too.
std::optional<H264Sequence> h264_sequence(const std::vector<uint8_t>& avcc);

// The frame_num of the picture that a slice is of, from the slice's first bytes (7.3.3).
int64_t h264_frame_num(const H264Sequence& sequence, const uint8_t* nal, int num_bytes);

class H264OrderCounter {
 public:
  // Empty where slice headers may say more than it knows of: fields, counts of type 1, headers that h264_sequence does not read.
  static std::optional<H264OrderCounter> of(const std::vector<uint8_t>& avcc);
  // The count of the next picture, from the first bytes of its first slice; kNoOrderCount where they do not tell, or the picture does not
  // go on from the one before, as where one was lost.
  int64_t read(const uint8_t* nal, int num_bytes);

 private:
  enum PictureSet : uint8_t { kMissing, kWithoutBottom, kWithBottom };  // bottom_field_pic_order_in_frame_present_flag

  H264Sequence sequence_;
  std::array<PictureSet, 256> sets_ = {};
  int64_t last_reference_ = 0;                         // its frame_num
  int64_t last_high_ = 0, last_low_ = 0;               // of the last reference picture, type 0
  int64_t last_frame_num_ = 0, frame_num_offset_ = 0;  // of the last picture, type 2
};

}  // namespace vidload
