#include "index/packet_index.h"

#include <cstring>
#include <type_traits>

#include "base/error.h"

namespace vidload {
namespace {

constexpr uint32_t kMagic = 0x58444C56;  // "VLDX"
constexpr uint32_t kVersion = 2;

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
  template <typename T>
  void array(std::vector<T>& items) {
    items.resize(count(sizeof(T)));
    take(items.data(), items.size() * sizeof(T));
  }
  void text(std::string& item) {
    item.resize(count(1));
    take(item.data(), item.size());
  }

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
  [[noreturn]] static void fail() { throw Error("the packet index is damaged; write the index file again"); }
  const uint8_t *at_, *end_;
};

// The one list of what is stored, for reading and for writing.
template <typename Archive, typename Index>
void archive(Archive& a, Index& index) {
  auto& s = index.stream;
  a.value(s.stream_number), a.text(s.container), a.text(s.codec), a.text(s.pixel_format), a.array(s.extradata);
  a.value(s.codec_tag), a.value(s.format), a.value(s.profile), a.value(s.level);
  a.value(s.coded_width), a.value(s.coded_height), a.value(s.bits_per_coded_sample);
  a.value(s.color_primaries), a.value(s.color_transfer), a.value(s.color_space), a.value(s.color_range);
  a.value(s.chroma_location), a.value(s.field_order), a.value(s.reorder_depth), a.value(s.rotation), a.value(s.is_mirrored);
  a.value(s.sample_aspect_ratio), a.value(s.time_base), a.value(s.average_fps), a.value(s.duration_seconds);
  a.value(index.is_byte_addressable), a.value(index.is_regular), a.value(index.is_cut_short);
  a.text(index.note), a.value(index.stamp);
  a.array(index.pts), a.array(index.offset), a.array(index.size), a.array(index.flags);
  a.array(index.frame_packet), a.array(index.frame_pts);
}

}  // namespace

int64_t PacketIndex::bytes_held() const {
  return int64_t(sizeof *this + stream.extradata.size() + pts.size() * (8 + 8 + 4 + 1) + frame_packet.size() * (4 + 8));
}

std::vector<uint8_t> PacketIndex::to_bytes() const {
  Writer writer;
  writer.value(kMagic);
  writer.value(kVersion);
  archive(writer, *this);
  return writer.take();
}

PacketIndex PacketIndex::from_bytes(const uint8_t* data, size_t size) {
  Reader reader(data, size);
  uint32_t magic = 0, version = 0;
  reader.value(magic);
  reader.value(version);
  if (magic != kMagic || version != kVersion) {
    throw Error("the packet index was written by another version of vidload (format " + std::to_string(version) + ", this one reads " +
                std::to_string(kVersion) + "); write the index file again");
  }
  PacketIndex index;
  archive(reader, index);
  const size_t num_packets = index.pts.size();
  bool fits = index.offset.size() == num_packets && index.size.size() == num_packets && index.flags.size() == num_packets &&
              index.frame_pts.size() == index.frame_packet.size();
  for (const int32_t packet : index.frame_packet) fits &= packet >= 0 && size_t(packet) < num_packets;
  if (!fits) throw Error("the packet index is damaged; write the index file again");
  return index;
}

}  // namespace vidload
