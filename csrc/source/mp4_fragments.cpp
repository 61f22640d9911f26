#include "source/mp4_fragments.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "source/mp4_box.h"

namespace vidload {
namespace {

constexpr int64_t kMaxHeaders = 64 << 20;
constexpr int64_t kHeader = 16;  // of a box, at most

bool has_flag(const Body& box, uint32_t flag) { return (box.number(0) & flag) != 0; }

// 8.8.8, 8.8.7, 8.8.12, 8.16.3: whether there is room for what a box says that it holds.
bool has_room(const uint8_t* type, const Body& box) {
  int64_t needed = 8;
  if (is_box(type, "trun")) {
    int64_t of_sample = 0;
    for (const uint32_t flag : {0x100, 0x200, 0x400, 0x800}) of_sample += has_flag(box, flag) ? 4 : 0;
    for (const uint32_t flag : {0x1, 0x4}) needed += has_flag(box, flag) ? 4 : 0;
    needed += of_sample * box.number(4);
  } else if (is_box(type, "tfhd")) {
    for (const uint32_t flag : {0x2, 0x8, 0x10, 0x20}) needed += has_flag(box, flag) ? 4 : 0;
    needed += has_flag(box, 0x1) ? 8 : 0;
  } else if (is_box(type, "tfdt")) {
    needed = has_flag(box, 0xFF000000) ? 12 : 8;
  } else if (is_box(type, "sidx")) {
    needed = has_flag(box, 0xFF000000) ? 32 : 24;
    needed += 12 * int64_t{box.number(needed - 4) & 0xFFFF};
  } else {
    return false;
  }
  return needed <= box.size;
}

bool is_sound_fragment(const Body& moof) {
  bool is_sound = true;
  is_sound &= for_each_box(moof, [&](const uint8_t* type, const Body& box) {
    if (is_box(type, "traf")) {
      is_sound &=
          for_each_box(box, [&](const uint8_t* inner, const Body& part) { is_sound &= !is_box(inner, "sidx") && has_room(inner, part); });
    } else {
      is_sound &= is_box(type, "mfhd");
    }
  });
  return is_sound;
}

}  // namespace

std::unique_ptr<FragmentHeaders> FragmentHeaders::read_all(const ByteSource& source, const Cancel* cancel) {
  std::unique_ptr<FragmentHeaders> headers(new FragmentHeaders(source));
  if (!headers->walk(cancel)) return nullptr;
  return headers;
}

// Makes sure that bytes_ goes on up to `until`, or the end of the file. False where the file is shorter than it said.
bool FragmentHeaders::fetch(int64_t until) {
  until = std::min(until, size());
  if (until <= fetched_) return true;
  const size_t held = bytes_.size();
  const int64_t missing = until - fetched_;
  bytes_.resize(held + size_t(missing));
  if (source_.read(fetched_, bytes_.data() + held, missing) != missing) return false;
  fetched_ = until;
  return true;
}

bool FragmentHeaders::walk(const Cancel* cancel) {
  int num_moovs = 0;
  bool is_mfra_last = false;
  int64_t skipped = 0;
  for (int64_t at = 0; at < size();) {
    if (cancel && cancel->is_set()) throw VideoError(VideoErrorKind::cancelled, name(), -1, "cancelled");
    if (!fetch(at + kHeader)) return false;
    const uint8_t* head = bytes_.data() + (at - skipped);
    int64_t box_size = 0;
    const int64_t header = read_box_header(head, std::min(kHeader, fetched_ - at), size() - at, &box_size);
    if (header == 0 || big_endian(head, 4) == 0) return false;
    const ByteRange body = {at + header, at + box_size};
    at = body.end;
    is_mfra_last = is_box(head + 4, "mfra");
    if (is_box(head + 4, "mdat") || is_box(head + 4, "free") || is_box(head + 4, "skip")) {
      bytes_.resize(size_t(body.begin - skipped));
      fetched_ = body.end;
      skipped += body.end - body.begin;
      if (body.begin < body.end) media_.push_back({body, skipped});
      continue;
    }
    if (at - skipped > kMaxHeaders || !fetch(at + kHeader)) return false;  // with the header of the box behind it
    head = bytes_.data() + (body.begin - header - skipped);
    const Body content = {head + header, body.end - body.begin};
    const auto is = [&](const char* type) { return is_box(head + 4, type); };
    num_moovs += is("moov");
    const bool is_plain = is("moof")   ? is_sound_fragment(content)
                          : is("sidx") ? has_room(head + 4, content)
                                       : is("moov") || is("ftyp") || is("styp") || is("mfra") || is("emsg");
    if (!is_plain) return false;
  }
  return num_moovs == 1 && source_.read(size() - 4, tail_, 4) == 4 && (is_mfra_last || !points_to_mfra());
}

bool FragmentHeaders::points_to_mfra() const {
  const int64_t distance = int64_t(big_endian(tail_, 4));
  if (distance < 8 || distance > size()) return false;
  uint8_t head[8] = {};
  return source_.read(size() - distance, head, 8) != 8 || is_box(head + 4, "mfra");
}

std::vector<FragmentHeaders::Media>::const_iterator FragmentHeaders::media_at(int64_t at) const {
  return std::upper_bound(media_.begin(), media_.end(), at, [](int64_t place, const Media& media) { return place < media.range.end; });
}

bool FragmentHeaders::is_media(ByteRange range) const {
  const auto media = media_at(range.begin);
  return media != media_.end() && range.begin >= media->range.begin && range.end <= media->range.end;
}

int64_t FragmentHeaders::read(int64_t offset, uint8_t* out, int64_t size) const {
  const int64_t end = std::min(offset + size, this->size());
  for (int64_t at = offset; at < end;) {
    const auto media = media_at(at);
    const bool is_last = media == media_.end();
    int64_t until = end;
    if (!is_last && at >= media->range.begin) {
      until = std::min(end, media->range.end);
      std::memset(out + (at - offset), fill_, size_t(until - at));
      for (int64_t i = std::max(at, this->size() - 4); i < until; ++i) out[i - offset] = tail_[i - (this->size() - 4)];
    } else {
      if (!is_last) until = std::min(end, media->range.begin);
      const int64_t skipped = media == media_.begin() ? 0 : std::prev(media)->skipped;
      std::memcpy(out + (at - offset), bytes_.data() + (at - skipped), size_t(until - at));
    }
    at = until;
  }
  return std::max<int64_t>(end - offset, 0);
}

}  // namespace vidload
