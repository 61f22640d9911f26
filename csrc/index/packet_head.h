// packet_head: the first bytes of a packet in a file, as far as its first picture's header goes; for files of which not every byte is
// read to index them.
#pragma once

#include <cstdint>
#include <vector>

#include "index/packet_index.h"

namespace vidload {

// Of H.264 and HEVC: how many bytes say how long a NAL unit is, in streams as mp4 and Matroska hold them; 0 for any other stream.
int nal_length_bytes(const StreamInfo& stream);

// Whether an H.264 stream's container says of it that every picture is a whole frame, never a field. False where it does not tell.
bool holds_no_fields(const StreamInfo& stream);

// Whether an HEVC packet that ends at `end` says that a sequence ends with it. True where it does not tell.
bool ends_hevc_sequence(const ByteSource& source, int64_t end, int nal_length_size);

class PacketHeadReader {
 public:
  static constexpr int kFirstRead = 20;  // mostly all that is needed of a packet: Note [How much of a slice header]

  // Both must outlive it.
  PacketHeadReader(const ByteSource& source, const StreamInfo& stream);
  // Reads the head of the packet of `size` bytes at `offset`. What it holds then can be given to PacketHeaderReader as a packet: in H.264
  // and HEVC the NAL units up to the first slice, cut off behind its header, without long user data. Throws as the source's read(),
  // VideoError where the file is shorter.
  void read(int64_t offset, int size);
  const uint8_t* data() const { return bytes_.data(); }  // followed by padding
  int size() const { return size_; }

 private:
  const uint8_t* raw(int64_t offset, int64_t from, int64_t until, int64_t size);
  bool is_slice(uint8_t first) const;
  bool is_user_data(const uint8_t* nal, int num_bytes, int64_t size) const;

  const ByteSource& source_;
  const int nal_length_size_;
  const bool is_hevc_;
  const int longest_;                 // of a codec without NAL units
  std::vector<uint8_t> bytes_, raw_;  // raw_: the packet's bytes from raw_begin_ on
  int64_t raw_begin_ = 0;
  int size_ = 0;
};

}  // namespace vidload
