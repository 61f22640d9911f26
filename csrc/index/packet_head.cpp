#include "index/packet_head.h"

#include <algorithm>

#include "base/error.h"
#include "index/h264_order.h"
#include "source/av_handles.h"

namespace vidload {
namespace {

constexpr int kSliceHeader = 16;  // Note [How much of a slice header]
constexpr int kOtherCodecs = 1024;

bool is_told_by_first_bytes(const std::string& codec) { return codec == "vp8" || codec == "vp9"; }

}  // namespace

int nal_length_bytes(const StreamInfo& stream) {
  const std::vector<uint8_t>& extradata = stream.extradata;
  if (stream.codec == "h264" && extradata.size() >= 7 && extradata[0] == 1) return (extradata[4] & 3) + 1;
  if (stream.codec == "hevc" && extradata.size() >= 23 && extradata[0] == 1) return (extradata[21] & 3) + 1;
  return 0;
}

bool holds_no_fields(const StreamInfo& stream) {
  if (nal_length_bytes(stream) == 0 || stream.codec != "h264") return false;
  const std::optional<H264Sequence> sequence = h264_sequence(stream.extradata);
  return sequence && sequence->is_frames_only;
}

bool ends_hevc_sequence(const ByteSource& source, int64_t end, int nal_length_size) {
  uint8_t tail[2] = {};
  if (nal_length_size == 0 || source.read(end - 2, tail, 2) != 2) return true;
  const int type = tail[0] >> 1 & 63;
  return (type == 36 || type == 37) && tail[1] == 1;
}

PacketHeadReader::PacketHeadReader(const ByteSource& source, const StreamInfo& stream)
    : source_(source),
      nal_length_size_(nal_length_bytes(stream)),
      is_hevc_(stream.codec == "hevc"),
      longest_(is_told_by_first_bytes(stream.codec) ? kFirstRead : kOtherCodecs) {}

// Makes sure that the bytes [from, until) of the packet are in raw_, with more behind them that will be wanted next.
const uint8_t* PacketHeadReader::raw(int64_t offset, int64_t from, int64_t until, int64_t size) {
  if (from < raw_begin_ || until > raw_begin_ + int64_t(raw_.size())) {
    until = std::min(size, std::max(until, from + kFirstRead));
    raw_.resize(size_t(until - from));
    raw_begin_ = from;
    if (source_.read(offset + from, raw_.data(), until - from) != until - from) {
      throw VideoError(VideoErrorKind::unreadable, source_.name(), -1, "it ends before the packet at byte " + std::to_string(offset));
    }
  }
  return raw_.data() + (from - raw_begin_);
}

void PacketHeadReader::read(int64_t offset, int size) {
  bytes_.clear();
  raw_.clear();
  raw_begin_ = 0;
  const auto take = [&](int64_t from, int64_t until) {
    const uint8_t* data = raw(offset, from, until, size);
    bytes_.insert(bytes_.end(), data, data + (until - from));
  };
  if (nal_length_size_ == 0) take(0, std::min(size, longest_));
  for (int64_t at = 0; nal_length_size_ > 0 && at + nal_length_size_ < size;) {
    const int64_t begin = at + nal_length_size_;
    const int64_t first = std::min<int64_t>(begin + 8, size);
    const uint8_t* head = raw(offset, at, first, size);
    int64_t length = 0;
    for (int i = 0; i < nal_length_size_; ++i) length = length << 8 | head[i];
    const int64_t end = std::min<int64_t>(begin + length, size);
    if (is_slice(head[nal_length_size_])) {
      const int64_t cut = std::min(end, begin + kSliceHeader);
      take(at, cut);
      length = cut - begin;
      for (int64_t i = nal_length_size_; i-- > 0; length >>= 8) bytes_[bytes_.size() - size_t(cut - at) + size_t(i)] = uint8_t(length);
      break;
    }
    // What an encoder says of itself comes before the first picture of each recording, and may be long.
    if (!(end - begin > kFirstRead && is_user_data(head + nal_length_size_, int(first - begin), end - begin))) take(at, end);
    at = end;
  }
  size_ = int(bytes_.size());
  bytes_.insert(bytes_.end(), AV_INPUT_BUFFER_PADDING_SIZE, uint8_t{0});
}

bool PacketHeadReader::is_slice(uint8_t first) const { return is_hevc_ ? (first >> 1 & 63) < 32 : (first & 31) >= 1 && (first & 31) <= 5; }

// Whether a NAL unit of `size` bytes is an SEI of which the one message is unregistered user data (H.264 and HEVC D.2.6).
bool PacketHeadReader::is_user_data(const uint8_t* nal, int num_bytes, int64_t size) const {
  const bool is_sei = is_hevc_ ? (nal[0] >> 1 & 63) == 39 : (nal[0] & 31) == 6;
  int at = is_hevc_ ? 2 : 1;
  if (!is_sei || at >= num_bytes || nal[at++] != 5) return false;
  int64_t length = 0;
  while (at < num_bytes && nal[at] == 0xFF) length += 255, ++at;
  if (at >= num_bytes) return false;
  length += nal[at++];
  return at + length + 1 == size;  // and the bit that ends it; escaped bytes make it longer, and it is read then
}

// Note [How much of a slice header]
// Of which picture a slice is, its type and its order count lie in the first 92 bits of its header in H.264 (7.3.3, with every field as
// long as it may be, and no fields), in the first 44 in HEVC (7.3.6.1): 13 and 8 bytes with the NAL unit's own header. Three more leave
// room for escaped ones. What H.264 says behind that of references is read by libavcodec's parser to see whether the counts begin anew
// without a keyframe (memory_management_control_operation 5, which is rare), and may lie beyond the bytes that are read here. The counts
// that follow are then wrong, and contradict the container's times: an index made of heads is believed only where both give the same
// order, else the whole file is read.

}  // namespace vidload
