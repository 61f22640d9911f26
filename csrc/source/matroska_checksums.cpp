#include "source/matroska_checksums.h"

#include <algorithm>

extern "C" {
#include <libavutil/crc.h>
}

#include "base/error.h"
#include "source/ebml.h"

namespace vidload {
namespace {

bool read_element(const ByteSource& source, int64_t at, EbmlElement* element) {
  uint8_t bytes[12] = {};
  return parse_ebml_element(bytes, source.read(at, bytes, sizeof bytes), at, element);
}

}  // namespace

// False where it has no checksum.
bool ClusterChecksums::begin_cluster(const ByteRange& cluster) {
  constexpr int64_t kChecksumSize = 6;  // identifier 0xBF, size 4, and the value, its least significant byte first
  uint8_t head[kChecksumSize] = {};
  if (cluster.end - cluster.begin < kChecksumSize || source_.read(cluster.begin, head, kChecksumSize) != kChecksumSize) return false;
  if (head[0] != 0xBF || head[1] != 0x84) return false;
  cluster_ = cluster;
  stated_ = head[2] | head[3] << 8 | head[4] << 16 | uint32_t{head[5]} << 24;
  crc_ = UINT32_MAX;
  at_ = cluster.begin + kChecksumSize;
  return true;
}

// Goes from element to element until there is one with a checksum, or the next lies at or behind `end`.
void ClusterChecksums::read_headers(int64_t end) {
  const int64_t file_end = source_.size();
  EbmlElement element;
  while (!is_end_ && cluster_.end == 0 && at_ < end) {
    if (cancel_ && cancel_->is_set()) throw VideoError(VideoErrorKind::cancelled, source_.name(), -1, "cancelled");
    is_end_ = at_ >= file_end || !read_element(source_, at_, &element) || (at_ == 0 && element.id != kEbmlHeader);
    if (is_end_) return;
    if (element.id == kEbmlSegment || (element.id == kEbmlCluster && element.size == kEbmlUnknown)) {
      at_ = element.body;  // its children come next
      continue;
    }
    is_end_ = element.size == kEbmlUnknown || element.size > file_end - element.body;  // cut short
    if (is_end_) return;
    const int64_t element_end = element.body + element.size;
    if (element.id != kEbmlCluster || !begin_cluster({element.body, element_end})) at_ = element_end;
  }
}

void ClusterChecksums::pass(int64_t offset, const uint8_t* data, int64_t size) {
  const int64_t end = offset + size;
  while (!is_end_ && at_ >= offset && at_ < end) {
    if (cluster_.end == 0) {
      read_headers(end);
      continue;
    }
    const int64_t until = std::min(end, cluster_.end);
    crc_ = av_crc(av_crc_get_table(AV_CRC_32_IEEE_LE), crc_, data + (at_ - offset), size_t(until - at_));
    at_ = until;
    if (at_ < cluster_.end) return;
    if (~crc_ != stated_) damaged_.push_back(cluster_);
    cluster_ = {};
  }
}

// Reads what is left of the cluster; false where that is not there.
bool ClusterChecksums::take_cluster() {
  std::vector<uint8_t> buffer(256 << 10);
  for (int64_t end = cluster_.end; cluster_.end == end && end > 0;) {
    if (cancel_ && cancel_->is_set()) throw VideoError(VideoErrorKind::cancelled, source_.name(), -1, "cancelled");
    const int64_t count = source_.read(at_, buffer.data(), std::min<int64_t>(int64_t(buffer.size()), end - at_));
    if (count <= 0) return false;
    pass(at_, buffer.data(), count);
  }
  return true;
}

std::vector<ByteRange> ClusterChecksums::finish() {
  do {
    read_headers(source_.size());
  } while (!is_end_ && cluster_.end != 0 && take_cluster());
  return std::move(damaged_);
}

bool ClusterChecksums::is_damaged(const ByteSource& source, const ByteRange& cluster, const Cancel* cancel) {
  ClusterChecksums one(source, cancel);
  one.begin_cluster(cluster);
  one.take_cluster();
  return !one.damaged_.empty();
}

}  // namespace vidload
