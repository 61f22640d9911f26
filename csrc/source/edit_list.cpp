#include "source/edit_list.h"

#include <algorithm>
#include <cstring>

#include "source/mp4_box.h"

namespace vidload {
namespace {

constexpr int kMaxBoxes = 10000;  // looked at; a file has some hundreds at most outside those that are passed over

// ISO 14496-12: size, type, and the size again in 64 bits if it is 1; 0 means up to the end.
void count_within(const ByteSource& source, int64_t begin, int64_t end, int* num_boxes, int64_t* num_edits) {
  for (int64_t at = begin; at + 8 <= end && ++*num_boxes <= kMaxBoxes;) {
    uint8_t head[16] = {};
    if (source.read(at, head, sizeof head) < 8) return;
    int64_t header = 8, size = int64_t(big_endian(head, 4));
    if (size == 1) header = 16, size = int64_t(std::min<uint64_t>(big_endian(head + 8, 8), INT64_MAX / 2));
    if (size == 0) size = end - at;
    if (size < header) return;
    const int64_t box_end = std::min(end, at + size);
    const auto is = [&](const char* type) { return std::memcmp(head + 4, type, 4) == 0; };
    if (is("moov") || is("trak") || is("edts")) count_within(source, at + header, box_end, num_boxes, num_edits);
    if (is("elst")) {
      uint8_t list[8] = {};  // version and flags, number of entries
      if (source.read(at + header, list, sizeof list) == sizeof list) *num_edits += int64_t(big_endian(list + 4, 4));
    }
    at = box_end;
  }
}

}  // namespace

int64_t count_edits(const ByteSource& source) {
  int num_boxes = 0;
  int64_t num_edits = 0;
  count_within(source, 0, source.size(), &num_boxes, &num_edits);
  return num_edits;
}

}  // namespace vidload
