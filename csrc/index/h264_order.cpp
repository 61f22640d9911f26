#include "index/h264_order.h"

#include <algorithm>

#include "index/bit_reader.h"
#include "index/packet_headers.h"

namespace vidload {

std::optional<H264Sequence> h264_sequence(const std::vector<uint8_t>& avcc) {
  if (avcc.size() < 12 || avcc[0] != 1 || (avcc[5] & 31) != 1) return std::nullopt;
  const size_t length = size_t(avcc[6]) << 8 | avcc[7];
  if (8 + length > avcc.size()) return std::nullopt;
  return h264_sequence_of(avcc.data() + 8, int(length));
}

std::optional<H264Sequence> h264_sequence_of(const uint8_t* nal, int num_bytes) {
  if (num_bytes < 4) return std::nullopt;
  const std::vector<uint8_t> sps = unescaped(nal + 1, num_bytes - 1);
  BitReader bits(sps.data(), int(sps.size()));
  H264Sequence sequence;
  const uint32_t profile = bits.bits(8);
  bits.bits(16);
  sequence.id = bits.uvlc();
  for (const uint32_t high : {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}) {
    if (profile != high) continue;
    if (bits.uvlc() == 3) sequence.has_separate_planes = bits.flag();
    bits.uvlc(), bits.uvlc(), bits.bits(1);
    if (bits.flag()) return std::nullopt;  // scaling lists
  }
  sequence.frame_num_bits = int(std::min<uint32_t>(bits.uvlc(), 32)) + 4;
  sequence.count_type = bits.uvlc();
  if (sequence.count_type == 0) sequence.count_bits = int(std::min<uint32_t>(bits.uvlc(), 32)) + 4;
  if (sequence.count_type == 1) {
    bits.bits(1), bits.uvlc(), bits.uvlc();
    const uint32_t cycle = bits.uvlc();
    if (cycle > 255) return std::nullopt;
    for (uint32_t i = 0; i < cycle; ++i) bits.uvlc();
  }
  bits.uvlc();
  sequence.allows_gaps = bits.flag();
  bits.uvlc(), bits.uvlc();
  sequence.is_frames_only = bits.flag();
  if (bits.is_past_end()) return std::nullopt;
  return sequence;
}

std::optional<H264OrderCounter> H264OrderCounter::of(const std::vector<uint8_t>& avcc) {
  const std::optional<H264Sequence> sequence = h264_sequence(avcc);
  if (!sequence || !sequence->is_frames_only || sequence->frame_num_bits > 16) return std::nullopt;
  if (sequence->count_type == 0 ? sequence->count_bits > 16 : sequence->count_type != 2) return std::nullopt;
  H264OrderCounter counter;
  counter.sequence_ = *sequence;
  size_t at = 8 + (size_t(avcc[6]) << 8 | avcc[7]);
  if (at >= avcc.size()) return std::nullopt;
  for (int left = avcc[at++]; left > 0; --left) {
    if (at + 2 > avcc.size()) return std::nullopt;
    const size_t length = size_t(avcc[at]) << 8 | avcc[at + 1];
    at += 2;
    if (length < 2 || length > avcc.size() - at) return std::nullopt;
    const std::vector<uint8_t> pps = unescaped(avcc.data() + at + 1, int(std::min<size_t>(length - 1, 16)));  // 7.3.2.2
    BitReader bits(pps.data(), int(pps.size()));
    const uint32_t id = bits.uvlc();
    if (id >= counter.sets_.size() || counter.sets_[id] != kMissing || bits.uvlc() != sequence->id) return std::nullopt;
    bits.bits(1);
    counter.sets_[id] = bits.flag() ? kWithBottom : kWithoutBottom;
    if (bits.is_past_end()) return std::nullopt;
    at += length;
  }
  return counter;
}

// The beginning of a slice's header without emulation prevention.
struct SliceHeader {
  SliceHeader(const uint8_t* nal, int num_bytes) {
    int zeros = 0;
    for (int i = 1; i < num_bytes && size < int(sizeof bytes); ++i) {
      if (zeros >= 2 && nal[i] == 3) {
        zeros = 0;
        continue;
      }
      zeros = nal[i] == 0 ? zeros + 1 : 0;
      bytes[size++] = nal[i];
    }
  }
  uint8_t bytes[32];
  int size = 0;
};

int64_t h264_frame_num(const H264Sequence& sequence, const uint8_t* nal, int num_bytes) {
  const SliceHeader header(nal, num_bytes);
  BitReader bits(header.bytes, header.size);
  bits.uvlc(), bits.uvlc(), bits.uvlc();
  if (sequence.has_separate_planes) bits.bits(2);
  return bits.bits(sequence.frame_num_bits);
}

int64_t H264OrderCounter::read(const uint8_t* nal, int num_bytes) {
  const int type = nal[0] & 31;
  const bool is_reference = (nal[0] & 0x60) != 0, is_idr = type == 5;
  if (type != 1 && type != 5) return kNoOrderCount;
  const SliceHeader header(nal, num_bytes);
  BitReader bits(header.bytes, header.size);  // 7.3.3
  bits.uvlc(), bits.uvlc();
  const uint32_t set = bits.uvlc();
  if (set >= sets_.size() || sets_[set] == kMissing) return kNoOrderCount;
  if (sequence_.has_separate_planes) bits.bits(2);
  const int64_t frame_num = bits.bits(sequence_.frame_num_bits);
  // 7.4.3: it counts the references. A damaged header breaks that, and so does what follows a reset of the counts without a keyframe.
  if (frame_num != (is_idr ? 0 : (last_reference_ + 1) % (int64_t{1} << sequence_.frame_num_bits))) return kNoOrderCount;
  if (is_reference) last_reference_ = frame_num;
  if (is_idr) bits.uvlc(), last_high_ = last_low_ = last_frame_num_ = frame_num_offset_ = 0;
  int64_t count = 0;
  if (sequence_.count_type == 0) {
    const int64_t low = bits.bits(sequence_.count_bits), range = int64_t{1} << sequence_.count_bits;
    int64_t high = last_high_;
    if (low < last_low_ && last_low_ - low >= range / 2) high += range;
    if (low > last_low_ && low - last_low_ > range / 2) high -= range;
    count = high + low;
    if (sets_[set] == kWithBottom) {
      const int64_t code = bits.uvlc();  // se(v), 9.1.1: 0, 1, -1, 2, -2, ...
      count = std::min(count, count + (code % 2 == 1 ? (code + 1) / 2 : -code / 2));
    }
    if (is_reference) last_high_ = high, last_low_ = low;
  } else {
    if (frame_num < last_frame_num_) frame_num_offset_ += int64_t{1} << sequence_.frame_num_bits;
    last_frame_num_ = frame_num;
    count = 2 * (frame_num_offset_ + frame_num) - (is_reference ? 0 : 1);
  }
  return bits.is_past_end() ? kNoOrderCount : count;
}

}  // namespace vidload
