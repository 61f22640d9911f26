#include "nvdec/annex_b.h"

namespace vidload {
namespace {

// Three bytes: a fourth, zero, would be taken for the end of the NAL unit before and handed to NVDEC with it.
constexpr uint8_t kStartCode[3] = {0, 0, 1};

void append_nal(std::vector<uint8_t>& out, const uint8_t* data, size_t size) {
  out.insert(out.end(), kStartCode, kStartCode + 3);
  out.insert(out.end(), data, data + size);
}

// Parameter sets of an avcC or hvcC box: `count` of them, each with a 16-bit length. Returns where they end, or null if cut short.
const uint8_t* append_sets(std::vector<uint8_t>& out, const uint8_t* at, const uint8_t* end, int count) {
  for (int i = 0; i < count; ++i) {
    if (end - at < 2) return nullptr;
    const size_t size = size_t(at[0] << 8 | at[1]);
    at += 2;
    if (size_t(end - at) < size) return nullptr;
    append_nal(out, at, size);
    at += size;
  }
  return at;
}

// ISO/IEC 14496-15, 5.3.3.1 (avcC).
void append_avcc_sets(std::vector<uint8_t>& out, const uint8_t* at, const uint8_t* end) {
  const uint8_t* next = append_sets(out, at + 6, end, at[5] & 31);
  if (next && next < end) append_sets(out, next + 1, end, *next);
}

// ISO/IEC 14496-15, 8.3.3.1 (hvcC).
void append_hvcc_sets(std::vector<uint8_t>& out, const uint8_t* at, const uint8_t* end) {
  const int num_arrays = at[22];
  at += 23;
  for (int i = 0; i < num_arrays && at && end - at >= 3; ++i) at = append_sets(out, at + 3, end, at[1] << 8 | at[2]);
}

}  // namespace

AnnexB::AnnexB(const StreamInfo& stream) : is_h264_(stream.codec == "h264"), is_hevc_(stream.codec == "hevc") {
  if (!is_h264_ && !is_hevc_) return;
  const std::vector<uint8_t>& extra = stream.extradata;
  const uint8_t *begin = extra.data(), *end = begin + extra.size();
  if (is_h264_ && extra.size() >= 7 && extra[0] == 1) {
    nal_length_size_ = (extra[4] & 3) + 1;
    append_avcc_sets(headers_, begin, end);
  } else if (is_hevc_ && extra.size() >= 23 && (extra[0] || extra[1] || extra[2] > 1)) {
    nal_length_size_ = (extra[21] & 3) + 1;
    append_hvcc_sets(headers_, begin, end);
  } else {
    headers_ = extra;
  }
}

void AnnexB::add_nal(const uint8_t* data, size_t size) {
  if (size == 0) return;
  note_nal(data, size, out_.size());
  append_nal(out_, data, size);
}

// `position`: where its start code is in out_.
void AnnexB::note_nal(const uint8_t* data, size_t size, size_t position) {
  const int type = is_h264_ ? data[0] & 31 : data[0] >> 1 & 63;
  if (is_h264_ ? type == 5 : type == 19 || type == 20) starts_anew_ = true;
  if (!is_h264_ || (type != 1 && type != 5) || size < 2 || !(data[1] & 0x80)) return;  // first_mb_in_slice is 0 where a picture begins
  if (has_picture_ && second_field_ == 0) second_field_ = position;
  has_picture_ = true;
}

const std::vector<uint8_t>& AnnexB::convert(const uint8_t* data, int size, bool with_headers) {
  out_.clear();
  starts_anew_ = !is_h264_ && !is_hevc_;
  has_picture_ = false;
  second_field_ = 0;
  if (with_headers) out_ = headers_;
  const uint8_t* end = data + size;
  if (nal_length_size_ > 0) {
    while (end - data > nal_length_size_) {
      size_t length = 0;
      for (int i = 0; i < nal_length_size_; ++i) length = length << 8 | *data++;
      if (length > size_t(end - data)) length = size_t(end - data);  // damaged; the decoder will say so
      add_nal(data, length);
      data += length;
    }
    return out_;
  }
  if (is_h264_ || is_hevc_) {
    for (const uint8_t* at = data; at + 3 < end; ++at) {
      if (at[0] != 0 || at[1] != 0 || at[2] != 1) continue;
      note_nal(at + 3, size_t(end - at - 3), out_.size() + size_t(at - data));
      at += 2;
    }
  }
  out_.insert(out_.end(), data, end);
  return out_;
}

}  // namespace vidload
