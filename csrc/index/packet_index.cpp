#include "index/packet_index.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

extern "C" {
#include <libavutil/pixdesc.h>
}

#include "base/checksum.h"
#include "base/error.h"
#include "base/limits.h"

namespace vidload {
namespace {

constexpr uint32_t kMagic = 0x58444C56;  // "VLDX"
constexpr uint32_t kVersion = 3;

[[noreturn]] void throw_damaged(const char* what) {
  throw Error(std::string("the packet index is damaged (") + what + "); write the index file again");
}

class Writer {
 public:
  template <typename T>
  void value(const T& item) {
    static_assert(std::is_trivially_copyable_v<T>);
    append(&item, sizeof item);
  }
  template <typename T>
  void array(const std::vector<T>& items) {
    value(uint64_t(items.size()));
    append(items.data(), items.size() * sizeof(T));
  }
  void text(const std::string& item) {
    value(uint64_t(item.size()));
    append(item.data(), item.size());
  }
  // Numbers whose neighbors differ little, as those differences: 7 bits a byte, the lowest first. `guess(i)` is near items[i].
  template <typename T, typename Guess>
  void differences(const std::vector<T>& items, Guess guess) {
    for (size_t i = 0; i < items.size(); ++i) {
      const uint64_t difference = uint64_t(int64_t{items[i]}) - uint64_t(guess(i));
      uint64_t rest = difference << 1 ^ (difference >> 63 ? UINT64_MAX : 0);  // small where it is near 0 on either side
      for (; rest >= 128; rest >>= 7) bytes_.push_back(uint8_t(rest | 128));
      bytes_.push_back(uint8_t(rest));
    }
  }
  std::vector<uint8_t> take() { return std::move(bytes_); }

 private:
  void append(const void* data, size_t size) {
    const auto* begin = static_cast<const uint8_t*>(data);
    bytes_.insert(bytes_.end(), begin, begin + size);
  }
  std::vector<uint8_t> bytes_;
};

class Reader {
 public:
  Reader(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  template <typename T>
  void value(T& item) {
    take(&item, sizeof item);
  }
  void value(bool& item) {
    uint8_t byte = 0;  // a bool that is neither 0 nor 1 must not come to be
    take(&byte, 1);
    if (byte > 1) fail();
    item = byte == 1;
  }
  template <typename T>
  void array(std::vector<T>& items) {
    items.resize(count(sizeof(T)));
    take(items.data(), items.size() * sizeof(T));
  }
  void text(std::string& item) {
    item.resize(count(1));
    take(item.data(), item.size());
  }
  // Refuses what Writer would have written in another way.
  template <typename T, typename Guess>
  void differences(std::vector<T>& items, Guess guess) {
    for (size_t i = 0; i < items.size(); ++i) {
      uint64_t rest = 0;
      int shift = 0;
      uint8_t byte = 128;
      for (; byte & 128; shift += 7) {
        value(byte);
        if (shift > 63 || (shift == 63 && byte > 1) || (shift > 0 && byte == 0)) fail();
        rest |= uint64_t(byte & 127) << shift;
      }
      const uint64_t difference = rest >> 1 ^ (rest & 1 ? UINT64_MAX : 0);
      const auto item = int64_t(uint64_t(guess(i)) + difference);
      items[i] = T(item);
      if (int64_t{items[i]} != item) fail();
    }
  }
  // How many of items that take a byte each, at least.
  size_t count() { return count(1); }
  const uint8_t* rest() const { return at_; }
  size_t num_left() const { return size_t(end_ - at_); }

 private:
  size_t count(size_t item_size) {
    uint64_t number = 0;
    value(number);
    if (number > size_t(end_ - at_) / item_size) fail();
    return size_t(number);
  }
  void take(void* out, size_t size) {
    if (size > size_t(end_ - at_)) fail();
    if (size > 0) std::memcpy(out, at_, size);
    at_ += size;
  }
  [[noreturn]] static void fail() { throw_damaged("its end is missing, or a number makes no sense"); }
  const uint8_t *at_, *end_;
};

// The frames as they are in most files: all packets that give one, by their times.
std::vector<int32_t> frames_by_time(const PacketIndex& index) {
  std::vector<int32_t> order;
  for (size_t i = 0; i < index.pts.size(); ++i) {
    if (!(index.flags[i] & (kHidden | kDiscard))) order.push_back(int32_t(i));
  }
  const auto is_before = [&](int32_t a, int32_t b) { return index.pts[size_t(a)] < index.pts[size_t(b)]; };
  if (!std::is_sorted(order.begin(), order.end(), is_before)) std::stable_sort(order.begin(), order.end(), is_before);
  return order;
}

bool are_frames(const PacketIndex& index, const std::vector<int32_t>& order) {
  const auto has_its_time = [&](size_t frame) { return index.frame_pts[frame] == index.pts[size_t(order[frame])]; };
  if (index.frame_packet != order || index.frame_pts.size() != order.size()) return false;
  for (size_t frame = 0; frame < order.size(); ++frame) {
    if (!has_its_time(frame)) return false;
  }
  return true;
}

// The one list of what is stored beside packets and frames, for reading and for writing.
template <typename Archive, typename Index>
void archive(Archive& a, Index& index) {
  auto& s = index.stream;
  a.value(s.stream_number), a.text(s.container), a.text(s.codec), a.text(s.pixel_format), a.array(s.extradata);
  a.value(s.codec_tag), a.value(s.format), a.value(s.profile), a.value(s.level);
  a.value(s.coded_width), a.value(s.coded_height), a.value(s.bits_per_coded_sample);
  a.value(s.color_primaries), a.value(s.color_transfer), a.value(s.color_space), a.value(s.color_range);
  a.value(s.chroma_location), a.value(s.field_order), a.value(s.inband_headers), a.value(s.reorder_depth), a.value(s.rotation),
      a.value(s.is_mirrored);
  a.value(s.sample_aspect_ratio), a.value(s.time_base), a.value(s.average_fps), a.value(s.duration_seconds);
  a.value(index.is_byte_addressable), a.value(index.is_regular), a.value(index.is_cut_short);
  a.text(index.note), a.value(index.stamp);
  a.array(index.flags);
}

// And of those; see Note [Bytes of an index].
template <typename Archive, typename Index>
void archive_packets(Archive& a, Index& index) {
  a.differences(index.size, [](size_t) { return int64_t{0}; });
  a.differences(index.offset,
                [&](size_t i) { return i == 0 ? 0 : int64_t(uint64_t(index.offset[i - 1]) + uint64_t(int64_t{index.size[i - 1]})); });
  a.differences(index.pts, [&](size_t i) { return i == 0 ? 0 : index.pts[i - 1]; });
}
template <typename Archive, typename Index>
void archive_frames(Archive& a, Index& index) {
  a.differences(index.frame_packet, [](size_t i) { return int64_t(i); });
  a.differences(index.frame_pts, [&](size_t i) { return i == 0 ? 0 : index.frame_pts[i - 1]; });
}

// Refuses what could make any later step read or write where it must not, loop without end, or give a frame for another. An index file
// is input like a video: its checksum tells damage, not ill will.
void check_sense(const PacketIndex& index) {
  const StreamInfo& s = index.stream;
  const auto expect = [](bool is_so, const char* what) {
    if (!is_so) throw_damaged(what);
  };
  const auto is_within = [](int64_t value, int64_t least, int64_t most) { return value >= least && value <= most; };

  constexpr size_t kMaxName = 256, kMaxExtradata = 16 << 20;
  expect(s.container.size() <= kMaxName && s.codec.size() <= kMaxName && s.pixel_format.size() <= kMaxName, "a name");
  expect(s.extradata.size() <= kMaxExtradata, "the codec's extradata");
  expect(s.format == -1 || av_pix_fmt_desc_get(AVPixelFormat(s.format)), "the pixel format");
  expect(is_within(s.coded_width, 1, 1 << 16) && is_within(s.coded_height, 1, 1 << 16), "the picture size");
  expect(is_within(s.bits_per_coded_sample, 0, 64), "the bits of a sample");
  // H.273 numbers are bytes; a range or a location that FFmpeg does not know is none.
  expect(is_within(s.color_primaries, 0, 255) && is_within(s.color_transfer, 0, 255) && is_within(s.color_space, 0, 255), "the colors");
  expect(is_within(s.color_range, 0, AVCOL_RANGE_NB - 1) && is_within(s.chroma_location, 0, AVCHROMA_LOC_NB - 1), "the colors");
  expect(is_within(s.field_order, 0, AV_FIELD_BT), "the field order");
  expect(is_within(s.inband_headers, 0, 2), "the headers in packets");
  expect(is_within(s.reorder_depth, 0, 16), "the reorder depth");
  expect(s.rotation == 0 || s.rotation == 90 || s.rotation == 180 || s.rotation == 270, "the rotation");
  expect(is_within(s.stream_number, 0, 1 << 16), "the stream's number");
  expect(s.sample_aspect_ratio.num >= 0 && s.sample_aspect_ratio.den > 0, "the pixel's aspect ratio");
  expect(s.time_base.num > 0 && s.time_base.den > 0 && s.average_fps.num >= 0 && s.average_fps.den >= 0, "the time base");
  expect(std::isfinite(s.duration_seconds), "the duration");

  const size_t num_packets = index.pts.size(), num_frames = index.frame_packet.size();
  expect(is_within(int64_t(num_packets), 1, INT32_MAX) && index.offset.size() == num_packets && index.size.size() == num_packets &&
             index.flags.size() == num_packets,
         "the number of packets");
  expect(is_within(int64_t(num_frames), 1, index.is_regular ? int64_t(num_packets) : INT32_MAX) && index.frame_pts.size() == num_frames,
         "the number of frames");
  const int64_t file_size = index.stamp.size >= 0 ? index.stamp.size : INT64_MAX / 2;  // memory has no stamp
  for (size_t i = 0; i < num_packets; ++i) {
    expect(index.size[i] > 0, "a packet's size");
    expect(index.flags[i] <= kAllPacketFlags, "a packet's flags");
    if (!index.is_byte_addressable) continue;
    expect(index.offset[i] >= 0 && index.offset[i] <= file_size - index.size[i], "a packet's place");
  }
  std::vector<bool> is_taken(num_packets);
  for (size_t i = 0; i < num_frames; ++i) {
    const int32_t packet = index.frame_packet[i];
    expect(is_within(packet, 0, int64_t(num_packets) - 1), "a frame's packet");
    expect(!index.is_regular || !is_taken[size_t(packet)], "a frame's packet");
    is_taken[size_t(packet)] = true;
    expect(i == 0 || index.frame_pts[i] >= index.frame_pts[i - 1], "the order of frames");
  }
}

}  // namespace

void check_limits(const PacketIndex& index, const std::string& path) {
  const VideoLimits limits = video_limits();
  check_limit(int64_t{index.stream.coded_width} * index.stream.coded_height, limits.pixels, "pixels of a picture", "pixels", path);
  check_limit(index.num_packets(), limits.packets, "packets", "packets", path);
  check_limit(index.num_frames(), limits.frames, "frames", "frames", path);
}

int64_t PacketIndex::bytes_held() const {
  return int64_t(sizeof *this + stream.extradata.size() + pts.size() * (8 + 8 + 4 + 1) + frame_packet.size() * (4 + 8));
}

// Magic, version, checksum of what follows, and that.
std::vector<uint8_t> PacketIndex::to_bytes() const {
  if (is_provisional) throw Error("this packet index was made from the container's tables alone; index the whole file to store it");
  Writer body;
  archive(body, *this);
  archive_packets(body, *this);
  const bool is_by_time = are_frames(*this, frames_by_time(*this));
  body.value(is_by_time);
  if (!is_by_time) {
    body.value(uint64_t(frame_packet.size()));
    archive_frames(body, *this);
  }
  const std::vector<uint8_t> bytes = body.take();
  Writer writer;
  writer.value(kMagic);
  writer.value(kVersion);
  writer.value(checksum(bytes.data(), bytes.size()));
  std::vector<uint8_t> result = writer.take();
  result.insert(result.end(), bytes.begin(), bytes.end());
  return result;
}

PacketIndex PacketIndex::from_bytes(const uint8_t* data, size_t size) {
  Reader reader(data, size);
  uint32_t magic = 0, version = 0;
  reader.value(magic);
  if (magic != kMagic) throw_damaged("it does not begin like one");
  reader.value(version);
  if (version != kVersion) {
    throw Error("the packet index was written by another version of vidload (format " + std::to_string(version) + ", this one reads " +
                std::to_string(kVersion) + "); write the index file again");
  }
  uint64_t sum = 0;
  reader.value(sum);
  if (sum != checksum(reader.rest(), reader.num_left())) throw_damaged("its checksum differs");
  PacketIndex index;
  archive(reader, index);
  index.size.resize(index.flags.size()), index.offset.resize(index.flags.size()), index.pts.resize(index.flags.size());
  archive_packets(reader, index);
  std::vector<int32_t> by_time = frames_by_time(index);
  bool is_by_time = false;
  reader.value(is_by_time);
  if (is_by_time) {
    for (const int32_t packet : by_time) index.frame_pts.push_back(index.pts[size_t(packet)]);
    index.frame_packet = std::move(by_time);
  } else {
    index.frame_packet.resize(reader.count());
    index.frame_pts.resize(index.frame_packet.size());
    archive_frames(reader, index);
    if (are_frames(index, by_time)) throw_damaged("its frames are listed in vain");
  }
  if (reader.num_left() != 0) throw_damaged("it is too long");
  check_sense(index);
  return index;
}

// Note [Bytes of an index]
// A million videos of 300 packets each are read by offset from one file, so an entry is small: some 7 bytes per packet in all. Sizes are
// written as they are, places as the distance from the end of the packet before, times as the step from the one before, all in as few bytes
// as they take, and frames not at all where they are the packets by time. There is one way to write an entry, and any other is refused.

}  // namespace vidload
