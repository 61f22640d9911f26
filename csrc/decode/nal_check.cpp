#include "decode/nal_check.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "index/packet_headers.h"
#include "source/ffmpeg_log.h"

namespace vidload {
namespace {

constexpr int kMostTrailingZeros = 128;  // some encoders fill up their NAL units
constexpr bool kFrameTells = LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(62, 28, 100);

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

// Calls visit(first byte, how many bytes follow it at most) for each NAL unit of a packet, until that returns false.
template <typename Visit>
void visit_nal_units(const uint8_t* at, const uint8_t* end, int length_size, Visit visit) {
  while (length_size > 0 && end - at > length_size) {
    int64_t length = 0;
    for (int i = 0; i < length_size; ++i) length = length << 8 | *at++;
    length = std::min<int64_t>(length, end - at);
    if (length > 0 && !visit(at, int(length))) return;
    at += length;
  }
  for (at = length_size == 0 ? two_zeros(at, end) : end; end - at > 3; at = two_zeros(at + 1, end)) {
    if (at[2] == 1 && !visit(at + 3, int(end - at - 3))) return;
  }
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

bool is_damaged(const AVFrame& frame, AVCodecID codec) {
  return frame.decode_error_flags || (codec == AV_CODEC_ID_HEVC && frame.flags & AV_FRAME_FLAG_CORRUPT);
}

LostPictures::LostPictures(const StreamInfo& stream)
    : length_size_(nal_length_size(stream)), is_h264_(stream.codec == "h264"), is_hevc_(stream.codec == "hevc") {
  if (is_h264_) stated_ = h264_sequence(stream.extradata);
}

void LostPictures::begin(int32_t first_packet) {
  first_ = first_packet;
  sequence_ = stated_;
  last_frame_num_ = -1;
  counts_references_ = false;
}

void LostPictures::watch(const uint8_t* data, int size) {
  made_up_ = FfmpegWords::num_made_up_pictures();
  frame_num_ = -1;
  if (!is_h264_) return;
  int num_sequences = 0;
  visit_nal_units(data, data + size, length_size_, [&](const uint8_t* nal, int num_bytes) {
    const int type = nal[0] & 31;
    if (type == 7) {
      sequence_ = h264_sequence_of(nal, num_bytes);
      if (++num_sequences > 1) sequence_.reset();  // which one counts is not known
    }
    if (type != 1 && type != 5) return true;
    if (sequence_) frame_num_ = h264_frame_num(*sequence_, nal, num_bytes);
    is_reference_ = (nal[0] & 0x60) != 0;
    return false;
  });
}

bool LostPictures::were_before(int32_t packet, bool is_keyframe) {
  const bool can_tell = sequence_ ? !sequence_->allows_gaps : is_hevc_ && !kFrameTells;
  const bool is_told = FfmpegWords::num_made_up_pictures() != made_up_;
  bool is_hidden = false;
  if (frame_num_ >= 0) {
    if (last_frame_num_ >= 0 && !was_reference_) {
      counts_references_ |= frame_num_ == last_frame_num_;
      is_hidden = counts_references_ && frame_num_ == (last_frame_num_ + 1) % (int64_t{1} << sequence_->frame_num_bits);
    }
    last_frame_num_ = frame_num_;
    was_reference_ = is_reference_;
  }
  return can_tell && packet != first_ && !is_keyframe && (is_told || is_hidden);
}

// Note [Lost pictures]
// A container has no count of its packets that a decoder could check, and its times may have gaps. Where a picture that others refer to is
// not there, libavcodec makes one up (gray, or a copy of the last, with the motion vectors of whatever was in that memory, another file's
// even) and goes on without a word but in its log.
// H.264 counts reference pictures: frame_num is one more than that of the last one (7.4.3). Of larger steps libavcodec's log tells. It goes
// by the last picture, also by one that is no reference, since some encoders count these, too; so that a reference was lost right after
// such a picture does not show. It does if the span has shown that its encoder counts as it should. Every HEVC picture lists those that are
// kept (8.3.2). Of a list that cannot be met the log tells, and from 8.1 on AV_FRAME_FLAG_CORRUPT, of pictures that refer to what is
// missing. Pictures are also left out on purpose, as those of a temporal layer: H.264 says in its headers whether that is allowed. And a
// span passes over packets: before anything is believed to be lost, it is decoded again with all of them. What VP8, VP9, MPEG-4 and others
// have lost shows in nothing.

// Note [Forbidden bytes]
// Inside a NAL unit an encoder breaks up every 00 00 00, 00 00 01 and 00 00 02 by a 03 (H.264 7.4.1, H.265 7.4.2). Files that were copied
// or downloaded incompletely have runs of zeros in the middle of a picture; CABAC decodes these without a complaint, to something.

}  // namespace vidload
