// checksum: tells bytes that were damaged from those that were written. Not a signature: who wants to can make bytes that fit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace vidload {

// 64 bits, eight bytes a step; any change within one step changes the result, others do but for a chance of 2^-64.
inline uint64_t checksum(const uint8_t* data, size_t size) {
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15;
  uint64_t sum = size * kOdd;
  const auto add = [&](uint64_t word) {
    sum = ((sum << 23 | sum >> 41) ^ word) * kOdd;  // one-to-one in the word, and in the sum
  };
  uint64_t word = 0;
  for (; size >= sizeof word; data += sizeof word, size -= sizeof word) {
    std::memcpy(&word, data, sizeof word);
    add(word);
  }
  word = 0;
  if (size > 0) std::memcpy(&word, data, size);
  add(word);
  return sum ^ sum >> 32;
}

}  // namespace vidload
