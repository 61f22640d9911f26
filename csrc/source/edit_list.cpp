#include "source/edit_list.h"

#include <algorithm>

#include "source/mp4_box.h"

namespace vidload {
namespace {

constexpr int kMaxBoxes = 10000;  // looked at; a file has some hundreds at most outside those that are passed over

void count_within(const ByteSource& source, int64_t begin, int64_t end, int* num_boxes, int64_t* num_edits) {
  for (int64_t at = begin; at + 8 <= end && ++*num_boxes <= kMaxBoxes;) {
    uint8_t head[16] = {};
    // One that says it is longer than the file goes up to its end, for libavformat as well.
    int64_t size = 0;
    const int64_t header = read_box_header(head, source.read(at, head, sizeof head), INT64_MAX, &size);
    if (header == 0) return;
    const int64_t box_end = at + std::min(size, end - at);
    const uint8_t* type = head + 4;
    if (is_box(type, "moov") || is_box(type, "trak") || is_box(type, "edts"))
      count_within(source, at + header, box_end, num_boxes, num_edits);
    if (is_box(type, "elst")) {
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
