// mp4_box: the boxes that mp4 and mov files are made of (ISO 14496-12, 4.2).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace vidload {

inline uint64_t big_endian(const uint8_t* bytes, int count) {
  uint64_t value = 0;
  for (int i = 0; i < count; ++i) value = value << 8 | bytes[i];
  return value;
}

inline bool is_box(const uint8_t* type, const char* wanted) { return std::memcmp(type, wanted, 4) == 0; }

// A box begins with its size and type, and the size again in 64 bits if it is 1; 0 means up to the end. `head`: its first `num_bytes`; up
// to 16 are looked at. Gives the size of the header, and the box's own, header among it; 0 where there is no box within `num_left` bytes.
inline int64_t read_box_header(const uint8_t* head, int64_t num_bytes, int64_t num_left, int64_t* size) {
  if (num_bytes < 8) return 0;
  int64_t header = 8;
  *size = int64_t(big_endian(head, 4));
  if (*size == 1) {
    if (num_bytes < 16) return 0;
    header = 16, *size = int64_t(std::min<uint64_t>(big_endian(head + 8, 8), INT64_MAX));
  }
  if (*size == 0) *size = num_left;
  return *size >= header && *size <= num_left ? header : 0;
}

// The bytes of a box behind its header.
struct Body {
  const uint8_t* data = nullptr;
  int64_t size = 0;
  uint32_t number(int64_t at) const { return at + 4 <= size ? uint32_t(big_endian(data + at, 4)) : 0; }
};

// Calls visit(type, body) for each child; false where they do not fill the box.
template <typename Visit>
bool for_each_box(const Body& parent, Visit visit) {
  int64_t at = 0;
  while (parent.size - at >= 8) {
    int64_t size = 0;
    const int64_t header = read_box_header(parent.data + at, parent.size - at, parent.size - at, &size);
    if (header == 0) return false;
    visit(parent.data + at + 4, Body{parent.data + at + header, size - header});
    at += size;
  }
  return true;  // QuickTime ends some lists with a zero of 4 bytes
}

}  // namespace vidload
