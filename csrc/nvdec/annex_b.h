// annex_b: H.264 and HEVC packets in the form of a byte stream with start codes, parameter sets in front where decoding starts. So fed, a
// decoder needs nothing of the container and survives a change of file. Other codecs pass unchanged.
#pragma once

#include <cstdint>
#include <vector>

#include "index/packet_index.h"

namespace vidload {

class AnnexB {
 public:
  explicit AnnexB(const StreamInfo& stream);

  // The packet as a byte stream, in memory that lasts to the next call. `with_headers` puts the stream's parameter sets before it.
  const std::vector<uint8_t>& convert(const uint8_t* data, int size, bool with_headers);

  // Whether a decoder that starts at the packet last converted owes nothing to what it decoded before (an IDR picture, a VPx or AV1
  // keyframe).
  bool starts_anew() const { return starts_anew_; }
  // Where the second coded picture of the packet last converted begins in it: an H.264 frame may be two fields. 0: it holds one.
  size_t second_field() const { return second_field_; }

 private:
  void add_nal(const uint8_t* data, size_t size);
  void note_nal(const uint8_t* data, size_t size, size_t position);
  bool is_h264_, is_hevc_;
  int nal_length_size_ = 0;  // 0: already a byte stream
  std::vector<uint8_t> headers_, out_;
  bool starts_anew_ = false, has_picture_ = false;
  size_t second_field_ = 0;
};

}  // namespace vidload
