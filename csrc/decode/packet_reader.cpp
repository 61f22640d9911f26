#include "decode/packet_reader.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace vidload {
namespace {

constexpr int64_t kMaxGap = 64 << 10;      // reading on over a gap this small costs less than another read
constexpr int64_t kMaxWindow = 4 << 20;    // how much of a long span is held at once
constexpr int32_t kMaxReadThrough = 1000;  // packets demuxed in vain before a seek is tried

}  // namespace

PacketReader::PacketReader(const ByteSource& source, const PacketIndex& index, const Cancel* cancel)
    : source_(source), index_(index), cancel_(cancel) {}
PacketReader::~PacketReader() = default;

void PacketReader::prefetch(const DecodePlan& plan) const {
  if (!index_.is_byte_addressable) return;
  std::vector<ByteRange> ranges;
  for (const Span& span : plan.spans) {
    for (const int32_t packet : span.packets) {
      const int64_t offset = index_.offset[size_t(packet)];
      ranges.push_back({offset, offset + index_.size[size_t(packet)]});
    }
  }
  source_.prefetch(std::move(ranges));
}

void PacketReader::begin(const std::vector<int32_t>& packets) { packets_ = &packets; }

void PacketReader::read(size_t position, AVPacket* out) {
  const int32_t packet = (*packets_)[position];
  try {
    if (index_.is_byte_addressable) {
      read_bytes(position, out);
    } else {
      read_demuxed(packet, out);
    }
  } catch (...) {
    forget();  // what is half read must not be taken for another packet later
    throw;
  }
  if (index_.flags[size_t(packet)] & kContainerKey) out->flags |= AV_PKT_FLAG_KEY;
}

void PacketReader::forget() {
  window_size_ = 0;
  container_.reset();
  next_demuxed_ = 0;
  has_pending_ = false;
}

void PacketReader::throw_changed() const {
  throw VideoError(VideoErrorKind::unreadable, source_.name(), -1,
                   "the file is not the one that was indexed (it changed or was cut short meanwhile); index it again");
}

void PacketReader::read_bytes(size_t position, AVPacket* out) {
  const int64_t offset = index_.offset[size_t((*packets_)[position])];
  const int64_t size = index_.size[size_t((*packets_)[position])];
  if (offset < window_offset_ || offset + size > window_offset_ + window_size_) {
    int64_t end = offset + size;
    for (size_t i = position + 1; i < packets_->size(); ++i) {
      const int64_t next = index_.offset[size_t((*packets_)[i])], next_end = next + index_.size[size_t((*packets_)[i])];
      if (next < offset || next > end + kMaxGap || next_end - offset > kMaxWindow) break;
      end = std::max(end, next_end);
    }
    window_size_ = 0;
    window_.resize(std::max(window_.size(), size_t(end - offset) + AV_INPUT_BUFFER_PADDING_SIZE));
    window_offset_ = offset;
    window_size_ = source_.read(offset, window_.data(), end - offset);
    bytes_read_ += window_size_;
    if (offset + size > window_offset_ + window_size_) throw_changed();
  }
  // Not reference counted: avcodec_send_packet copies it and adds the zero padding that decoders need.
  out->data = window_.data() + (offset - window_offset_);
  out->size = int(size);
}

void PacketReader::read_demuxed(int32_t packet, AVPacket* out) {
  if (!container_) {
    container_ = std::make_unique<Container>(source_, index_.stream.stream_number, cancel_);
    demuxed_.reset(av_packet_alloc());
    if (!demuxed_) throw std::bad_alloc();
  }
  const bool is_behind = packet < next_demuxed_;
  if (is_behind || packet - next_demuxed_ > kMaxReadThrough) {
    if (!seek_demuxer(packet) && is_behind) {
      container_ = std::make_unique<Container>(source_, index_.stream.stream_number, cancel_);
      next_demuxed_ = 0;
    }
  }
  while (next_demuxed_ <= packet) {
    if (!has_pending_) {
      if (!container_->read(demuxed_.get())) throw_changed();
      bytes_read_ += demuxed_->size;
    }
    has_pending_ = false;
    ++next_demuxed_;
  }
  if (demuxed_->size != index_.size[size_t(packet)]) throw_changed();
  av_packet_unref(out);
  if (av_packet_ref(out, demuxed_.get()) < 0) throw std::bad_alloc();
}

// Seeks to `packet`'s place in the file, then sees by position and size which packet of the index came out. Returns false, with a
// demuxer that must be opened again or read on from the start, when that is not certain.
bool PacketReader::seek_demuxer(int32_t packet) {
  int32_t target = packet;  // parsers lose a packet after a seek: aim at the keyframe before
  while (target > 0 && !(index_.flags[size_t(target)] & kKeyframe)) --target;
  const int64_t offset = index_.offset[size_t(target)];
  auto fresh = std::make_unique<Container>(source_, index_.stream.stream_number, cancel_);
  if (offset < 0 || !fresh->seek_to_byte(offset)) return false;
  if (!fresh->read(demuxed_.get())) return false;
  const auto is_it = [&](int32_t at) {
    return index_.offset[size_t(at)] == demuxed_->pos && index_.size[size_t(at)] == demuxed_->size && demuxed_->pos >= 0;
  };
  for (int32_t at = 0; at <= packet; ++at) {
    if (is_it(at)) {
      // Pictures that share a PES packet share its position.
      if (at + 1 < index_.num_packets() && is_it(at + 1)) return false;
      container_ = std::move(fresh);
      next_demuxed_ = at;
      has_pending_ = true;
      return true;
    }
  }
  return false;
}

}  // namespace vidload
