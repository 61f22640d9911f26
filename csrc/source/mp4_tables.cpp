#include "source/mp4_tables.h"

#include <algorithm>
#include <cstring>

#include "source/mp4_box.h"

namespace vidload {
namespace {

constexpr int kMaxTopBoxes = 1000;
constexpr int64_t kMaxMoov = 256 << 20;
constexpr uint32_t kVideoHandler = 0x76696465;  // "vide"

// Whether the one data reference says that the data is in this file (8.7.2).
bool is_self_contained(const Body& dref) {
  bool is_so = dref.number(4) == 1;
  const bool is_whole = for_each_box({dref.data + 8, std::max<int64_t>(dref.size - 8, 0)},
                                     [&](const uint8_t*, const Body& reference) { is_so &= (reference.number(0) & 1) != 0; });
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
  const auto in_table = [&](const uint8_t* type, const Body& box) {
    if (is_box(type, "stsd")) {
      num_descriptions += int(std::min<uint32_t>(box.number(4), 2));
      track.sample_entry = box.number(12);
      track.has_picture_size = (box.number(40) >> 16) > 0 && (box.number(40) & 0xFFFF) > 0;  // 12.1.3
    }
    if (is_box(type, "stsz") || is_box(type, "stz2")) ++num_sizes, track.num_samples = box.number(8);
    if (is_box(type, "ctts")) ++num_offsets, ctts = box;
  };
  const auto in_media_information = [&](const uint8_t* type, const Body& box) {
    if (is_box(type, "stbl")) is_whole &= for_each_box(box, in_table);
    if (is_box(type, "dinf")) {
      is_whole &= for_each_box(box, [&](const uint8_t* inner, const Body& dref) {
        if (is_box(inner, "dref")) is_self = is_self_contained(dref);
      });
    }
  };
  is_whole &= for_each_box(trak, [&](const uint8_t* type, const Body& box) {
    if (is_box(type, "tkhd")) ++num_headers, track.id = box.number(box.size > 0 && box.data[0] == 1 ? 20 : 12);
    if (is_box(type, "mdia")) {
      is_whole &= for_each_box(box, [&](const uint8_t* inner, const Body& part) {
        if (is_box(inner, "hdlr")) track.is_video |= part.number(8) == kVideoHandler;
        if (is_box(inner, "minf")) is_whole &= for_each_box(part, in_media_information);
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
    const int64_t header = read_box_header(head, count, end - at, &size);
    if (header == 0) return std::nullopt;
    const uint8_t* type = head + 4;
    if (i == 0 && !is_box(type, "ftyp") && !is_box(type, "moov") && !is_box(type, "mdat") && !is_box(type, "wide")) return std::nullopt;
    if (is_box(type, "moof")) return std::nullopt;
    if (!is_box(type, "moov")) {
      at += size;
      continue;
    }
    if (size > kMaxMoov) return std::nullopt;
    tables.moov = {at, at + size};
    tables.bytes.resize(size_t(size));
    if (source.read(at, tables.bytes.data(), size) != size) return std::nullopt;
    const bool is_whole = for_each_box({tables.bytes.data() + header, size - header}, [&](const uint8_t* inner, const Body& box) {
      tables.is_fragmented |= is_box(inner, "mvex");
      if (is_box(inner, "trak")) tables.tracks.push_back(read_track(box));
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
