#include "source/matroska_checksums.h"

#include <algorithm>

extern "C" {
#include <libavutil/crc.h>
}

#include "base/error.h"

namespace vidload {
namespace {

constexpr uint32_t kEbml = 0x1A45DFA3, kSegment = 0x18538067, kCluster = 0x1F43B675;
constexpr int64_t kUnknown = -1;

// EBML (RFC 8794): an identifier and a size, each as long as the leading zero bits of its first byte say.
struct Element {
  uint32_t id = 0;
  int64_t body = 0, size = 0;  // kUnknown: up to where its parent ends
};

// False at the end, or where there is no element.
bool read_element(const ByteSource& source, int64_t at, Element* element) {
  uint8_t bytes[12] = {};
  const int64_t count = source.read(at, bytes, sizeof bytes);
  const auto length = [](uint8_t first) {
    int zeros = 0;
    while (zeros < 8 && !(first & (0x80 >> zeros))) ++zeros;
    return zeros + 1;
  };
  const int id_length = length(bytes[0]);
  if (id_length > 4 || count < id_length + 1) return false;
  const int size_length = length(bytes[id_length]);
  if (size_length > 8 || count < id_length + size_length) return false;
  element->id = 0;
  for (int i = 0; i < id_length; ++i) element->id = element->id << 8 | bytes[i];
  uint64_t size = bytes[id_length] & (0xFF >> size_length);
  for (int i = 1; i < size_length; ++i) size = size << 8 | bytes[id_length + i];
  element->body = at + id_length + size_length;
  element->size = size == (uint64_t{1} << 7 * size_length) - 1 ? kUnknown : int64_t(size);
  return true;
}

// Whether a cluster's first child is a CRC-32 that is not that of the bytes behind it.
bool is_damaged(const ByteSource& source, const Element& cluster, std::vector<uint8_t>& buffer, const Cancel* cancel) {
  constexpr int64_t kChecksumSize = 6;  // identifier 0xBF, size 4, and the value, its least significant byte first
  uint8_t head[kChecksumSize] = {};
  if (cluster.size < kChecksumSize || source.read(cluster.body, head, kChecksumSize) < kChecksumSize) return false;
  if (head[0] != 0xBF || head[1] != 0x84) return false;
  const uint32_t stated = head[2] | head[3] << 8 | head[4] << 16 | uint32_t{head[5]} << 24;
  uint32_t crc = UINT32_MAX;
  const int64_t end = cluster.body + cluster.size;
  for (int64_t at = cluster.body + kChecksumSize; at < end;) {
    if (cancel && cancel->is_set()) throw VideoError(VideoErrorKind::cancelled, source.name(), -1, "cancelled");
    const int64_t count = source.read(at, buffer.data(), std::min<int64_t>(int64_t(buffer.size()), end - at));
    if (count <= 0) return false;
    crc = av_crc(av_crc_get_table(AV_CRC_32_IEEE_LE), crc, buffer.data(), size_t(count));
    at += count;
  }
  return ~crc != stated;
}

}  // namespace

std::vector<ByteRange> damaged_clusters(const ByteSource& source, const Cancel* cancel) {
  std::vector<ByteRange> damaged;
  std::vector<uint8_t> buffer(256 << 10);
  const int64_t end = source.size();
  Element element;
  for (int64_t at = 0; at < end && read_element(source, at, &element);) {
    if (cancel && cancel->is_set()) throw VideoError(VideoErrorKind::cancelled, source.name(), -1, "cancelled");
    if (at == 0 && element.id != kEbml) break;
    if (element.id == kSegment || (element.id == kCluster && element.size == kUnknown)) {
      at = element.body;  // its children come next
      continue;
    }
    if (element.size == kUnknown || element.size > end - element.body) break;  // cut short
    if (element.id == kCluster && is_damaged(source, element, buffer, cancel)) {
      damaged.push_back({element.body, element.body + element.size});
    }
    at = element.body + element.size;
  }
  return damaged;
}

}  // namespace vidload
