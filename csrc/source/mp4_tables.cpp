#include "source/mp4_tables.h"

#include <algorithm>
#include <cstring>

namespace vidload {
namespace {

constexpr int kMaxTopBoxes = 1000;
constexpr int64_t kMaxMoov = 256 << 20;

uint64_t big_endian(const uint8_t* bytes, int count) {
  uint64_t value = 0;
  for (int i = 0; i < count; ++i) value = value << 8 | bytes[i];
  return value;
}

// The bytes of a box behind its header.
struct Body {
  const uint8_t* data = nullptr;
  int64_t size = 0;
  uint32_t number(int64_t at) const { return at + 4 <= size ? uint32_t(big_endian(data + at, 4)) : 0; }
};

// ISO 14496-12, 4.2: size, type, and the size again in 64 bits if it is 1; 0 means up to the end. The size of the header, or 0 where there
// is no box.
int64_t read_header(const uint8_t* head, int64_t num_bytes, int64_t num_left, int64_t* size) {
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

// Calls visit(type, body) for each child; false where they do not fill the box.
template <typename Visit>
bool for_each_box(const Body& parent, Visit visit) {
  int64_t at = 0;
  while (parent.size - at >= 8) {
    int64_t size = 0;
    const int64_t header = read_header(parent.data + at, parent.size - at, parent.size - at, &size);
    if (header == 0) return false;
    visit(reinterpret_cast<const char*>(parent.data + at + 4), Body{parent.data + at + header, size - header});
    at += size;
  }
  return true;  // QuickTime ends some lists with a zero of 4 bytes
}

bool is(const char* type, const char* wanted) { return std::memcmp(type, wanted, 4) == 0; }

// Whether the one data reference says that the data is in this file (8.7.2).
bool is_self_contained(const Body& dref) {
  bool is_so = dref.number(4) == 1;
  const bool is_whole = for_each_box({dref.data + 8, std::max<int64_t>(dref.size - 8, 0)},
                                     [&](const char*, const Body& reference) { is_so &= (reference.number(0) & 1) != 0; });
  return is_so && is_whole;
}

// 8.6.1.3; false unless there is an offset for each sample, and none is negative: those libavformat takes for a shift of all.
bool read_composition_offsets(const Body& ctts, Mp4Track& track) {
  constexpr uint32_t kMost = 1 << 28;  // beyond it libavformat drops the table
  const int64_t num_entries = ctts.number(4);
  if (num_entries > (ctts.size - 8) / 8) return false;
  for (int64_t i = 0; i < num_entries; ++i) {
    const uint32_t count = ctts.number(8 + 8 * i), offset = ctts.number(12 + 8 * i);
    if (count == 0 || offset >= kMost || count > track.num_samples - int64_t(track.composition_offset.size())) return false;
    track.composition_offset.insert(track.composition_offset.end(), count, int32_t(offset));
  }
  return num_entries == 0 || int64_t(track.composition_offset.size()) == track.num_samples;
}

Mp4Track read_track(const Body& trak) {
  Mp4Track track;
  int num_headers = 0, num_sizes = 0, num_offsets = 0, num_descriptions = 0;
  bool is_self = false;
  Body ctts;
  bool is_whole = true;
  const auto in_table = [&](const char* type, const Body& box) {
    if (is(type, "stsd")) num_descriptions += int(std::min<uint32_t>(box.number(4), 2));
    if (is(type, "stsz") || is(type, "stz2")) ++num_sizes, track.num_samples = box.number(8);
    if (is(type, "ctts")) ++num_offsets, ctts = box;
  };
  const auto in_media_information = [&](const char* type, const Body& box) {
    if (is(type, "stbl")) is_whole &= for_each_box(box, in_table);
    if (is(type, "dinf")) {
      is_whole &= for_each_box(box, [&](const char* inner, const Body& dref) {
        if (is(inner, "dref")) is_self = is_self_contained(dref);
      });
    }
  };
  is_whole &= for_each_box(trak, [&](const char* type, const Body& box) {
    if (is(type, "tkhd")) ++num_headers, track.id = box.number(box.size > 0 && box.data[0] == 1 ? 20 : 12);
    if (is(type, "mdia")) {
      is_whole &= for_each_box(box, [&](const char* inner, const Body& minf) {
        if (is(inner, "minf")) is_whole &= for_each_box(minf, in_media_information);
      });
    }
  });
  track.is_plain = is_whole && is_self && num_headers == 1 && num_sizes == 1 && num_descriptions == 1 && num_offsets <= 1 &&
                   (num_offsets == 0 || read_composition_offsets(ctts, track));
  return track;
}

}  // namespace

std::optional<Mp4Tables> read_mp4_tables(const ByteSource& source) {
  const int64_t end = source.size();
  Mp4Tables tables;
  for (int64_t at = 0, i = 0; i < kMaxTopBoxes; ++i) {
    uint8_t head[16] = {};
    const int64_t count = source.read(at, head, sizeof head);
    int64_t size = 0;
    const int64_t header = read_header(head, count, end - at, &size);
    if (header == 0) return std::nullopt;
    const char* type = reinterpret_cast<const char*>(head + 4);
    if (i == 0 && !is(type, "ftyp") && !is(type, "moov") && !is(type, "mdat") && !is(type, "wide")) return std::nullopt;
    if (is(type, "moof")) return std::nullopt;
    if (!is(type, "moov")) {
      at += size;
      continue;
    }
    if (size > kMaxMoov) return std::nullopt;
    tables.moov = {at, at + size};
    tables.bytes.resize(size_t(size));
    if (source.read(at, tables.bytes.data(), size) != size) return std::nullopt;
    const bool is_whole = for_each_box({tables.bytes.data() + header, size - header}, [&](const char* inner, const Body& box) {
      tables.is_fragmented |= is(inner, "mvex");
      if (is(inner, "trak")) tables.tracks.push_back(read_track(box));
    });
    if (!is_whole) return std::nullopt;
    return tables;
  }
  return std::nullopt;
}

int64_t PartlyHeld::read(int64_t offset, uint8_t* out, int64_t size) const {
  int64_t done = 0;
  if (offset < range_.begin) {
    const int64_t count = std::min(size, range_.begin - offset);
    done = source_.read(offset, out, count);
    if (done < count) return done;
  }
  if (done < size && offset + done < range_.end) {
    const int64_t count = std::min(size - done, range_.end - offset - done);
    std::memcpy(out + done, bytes_.data() + (offset + done - range_.begin), size_t(count));
    done += count;
  }
  return done < size ? done + source_.read(offset + done, out + done, size - done) : done;
}

}  // namespace vidload
