#include "decode/nal_check.h"

#include <algorithm>
#include <cstring>

namespace vidload {
namespace {

constexpr int kMostTrailingZeros = 128;  // some encoders fill up their NAL units

// The first of two zeros in a row, or `end`.
const uint8_t* two_zeros(const uint8_t* at, const uint8_t* end) {
  while (end - at >= 2) {
    at = static_cast<const uint8_t*>(std::memchr(at, 0, size_t(end - at - 1)));
    if (!at) break;
    if (at[1] == 0) return at;
    at += 2;
  }
  return end;
}

}  // namespace

int nal_length_size(const StreamInfo& stream) {
  const std::vector<uint8_t>& extradata = stream.extradata;
  if (stream.codec == "h264") return extradata.size() >= 7 && extradata[0] == 1 ? (extradata[4] & 3) + 1 : 0;
  if (stream.codec == "hevc") {
    return extradata.size() >= 23 && (extradata[0] || extradata[1] || extradata[2] > 1) ? (extradata[21] & 3) + 1 : 0;
  }
  return -1;
}

bool has_forbidden_bytes(const uint8_t* data, int size, int length_size) {
  const uint8_t* const end = data + size;
  if (length_size == 0) {  // zeros, however many, must lead to a start code
    for (const uint8_t* at = two_zeros(data, end); at < end; at = two_zeros(at, end)) {
      const uint8_t* after = std::find_if(at, end, [](uint8_t byte) { return byte != 0; });
      if (after == end) return false;
      if (*after == 2 || (after - at > 2 && *after != 1)) return true;
      at = after + 1;
    }
    return false;
  }
  while (end - data > length_size) {
    uint32_t length = 0;
    for (int i = 0; i < length_size; ++i) length = length << 8 | *data++;
    const uint8_t* const stop = data + std::min<int64_t>(length, end - data);
    for (const uint8_t* at = two_zeros(data, stop); at < stop; at = two_zeros(at, stop)) {
      const uint8_t* after = std::find_if(at, stop, [](uint8_t byte) { return byte != 0; });
      if (after == stop && after - at > kMostTrailingZeros) return true;
      if (after != stop && (after - at > 2 || *after <= 2)) return true;
      at = std::min(after + 1, stop);
    }
    data = stop;
  }
  return false;
}

// Note [Forbidden bytes]
// Inside a NAL unit an encoder breaks up every 00 00 00, 00 00 01 and 00 00 02 by a 03 (H.264 7.4.1, H.265 7.4.2). Files that were copied
// or downloaded incompletely have runs of zeros in the middle of a picture; CABAC decodes these without a complaint, to something.

}  // namespace vidload
