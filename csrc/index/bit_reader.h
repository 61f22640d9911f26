// bit_reader: the bits of codec headers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace vidload {

// Most significant bit first; reads zeros past the end, which is_past_end() then tells.
class BitReader {
 public:
  BitReader(const uint8_t* data, int size) : data_(data), num_bits_(int64_t{size} * 8) {}
  uint32_t bits(int count) {
    uint32_t value = 0;
    while (count > 0) {  // a byte, or what is wanted of it, at a time
      const int used = int(position_ & 7), taken = std::min(count, 8 - used);
      const uint32_t byte = position_ < num_bits_ ? data_[position_ >> 3] : 0;
      value = value << taken | (byte >> (8 - used - taken) & ((1U << taken) - 1));
      position_ += taken;
      count -= taken;
    }
    return value;
  }
  bool flag() { return bits(1) != 0; }
  uint32_t uvlc() {  // AV1 spec 4.10.3, and H.264's ue(v), which reads the same
    int zeros = 0;
    while (position_ < num_bits_ && !flag()) ++zeros;
    return zeros >= 32 ? UINT32_MAX : bits(zeros) + ((uint32_t{1} << zeros) - 1);
  }
  bool is_past_end() const { return position_ > num_bits_; }

 private:
  const uint8_t* data_;
  int64_t num_bits_;
  int64_t position_ = 0;
};

// The payload of a NAL unit's first bytes without emulation prevention (00 00 03 -> 00 00).
inline std::vector<uint8_t> unescaped(const uint8_t* data, int size) {
  std::vector<uint8_t> out;
  out.reserve(size_t(size));
  int zeros = 0;
  for (int i = 0; i < size; ++i) {
    if (zeros >= 2 && data[i] == 3) {
      zeros = 0;
      continue;
    }
    zeros = data[i] == 0 ? zeros + 1 : 0;
    out.push_back(data[i]);
  }
  return out;
}

}  // namespace vidload
