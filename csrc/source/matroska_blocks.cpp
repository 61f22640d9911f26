#include "source/matroska_blocks.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/error.h"
#include "source/ebml.h"

namespace vidload {
namespace {

constexpr uint32_t kTracks = 0x1654AE6B, kTrackEntry = 0xAE, kTrackNumber = 0xD7, kTrackType = 0x83, kCodecId = 0x86;
constexpr uint32_t kContentEncodings = 0x6D80, kTrackScale = 0x23314F;
constexpr uint32_t kTimestamp = 0xE7, kSimpleBlock = 0xA3, kBlockGroup = 0xA0, kBlock = 0xA1, kReference = 0xFB, kAdditions = 0x75A1;
constexpr uint32_t kEncryptedBlock = 0xAF, kChecksum = 0xBF;
constexpr int64_t kPeek = 28;  // a block's header, and what most codecs say of a picture at its beginning (PacketHeadReader::kFirstRead)

struct NotPlain {};

class BlockWalk {
 public:
  BlockWalk(const ByteSource& source, const Cancel* cancel, const std::function<bool(const MatroskaBlock&)>& visit)
      : source_(source), cancel_(cancel), visit_(visit) {}

  // Throws NotPlain.
  std::vector<ByteRange> run() {
    const int64_t end = source_.size();
    const EbmlElement header = element_at(0, end);
    if (header.id != kEbmlHeader) throw NotPlain();
    const EbmlElement segment = element_at(header.end(), end);
    if (segment.id != kEbmlSegment || segment.end() != end) throw NotPlain();
    for (int64_t at = segment.body; at < end;) {
      const EbmlElement element = element_at(at, end);
      if (element.id == kTracks) read_tracks(element);
      if (element.id == kEbmlCluster) walk_cluster(element);
      if (element.id == kEbmlSegment || element.id == kEbmlHeader) throw NotPlain();
      at = element.end();
    }
    return std::move(checksummed_);
  }

 private:
  // `limit`: where its parent ends.
  EbmlElement element_at(int64_t at, int64_t limit) {
    EbmlElement element;
    peeked_at_ = at;
    peeked_ = source_.read(at, peek_, std::min(kPeek, limit - at));
    if (!parse_ebml_element(peek_, peeked_, at, &element) || element.size == kEbmlUnknown || element.size > limit - element.body) {
      throw NotPlain();
    }
    return element;
  }

  int64_t number(const EbmlElement& element) {
    uint8_t bytes[8] = {};
    if (element.size > 8 || source_.read(element.body, bytes, element.size) != element.size) throw NotPlain();
    uint64_t value = 0;
    for (int64_t i = 0; i < element.size; ++i) value = value << 8 | bytes[i];
    return int64_t(value);
  }

  void read_tracks(const EbmlElement& tracks) {
    for (int64_t at = tracks.body; at < tracks.end();) {
      const EbmlElement entry = element_at(at, tracks.end());
      at = entry.end();
      if (entry.id != kTrackEntry) continue;
      int64_t of_entry = -1, type = -1;
      bool is_plain = true;
      std::string codec;
      for (int64_t inner = entry.body; inner < entry.end();) {
        const EbmlElement element = element_at(inner, entry.end());
        if (element.id == kTrackNumber) of_entry = number(element);
        if (element.id == kTrackType) type = number(element);
        if (element.id == kContentEncodings || element.id == kTrackScale) is_plain = false;
        if (element.id == kCodecId && element.size < 64) {
          codec.resize(size_t(element.size));
          source_.read(element.body, reinterpret_cast<uint8_t*>(codec.data()), element.size);
        }
        inner = element.end();
      }
      if (type != 1) continue;
      if (track_ >= 0 || of_entry <= 0 || !is_plain || codec.rfind("V_MS/", 0) == 0) throw NotPlain();
      track_ = of_entry;
    }
  }

  void walk_cluster(const EbmlElement& cluster) {
    if (cancel_ && cancel_->is_set()) throw VideoError(VideoErrorKind::cancelled, source_.name(), -1, "cancelled");
    int64_t time = -1;
    for (int64_t at = cluster.body; at < cluster.end();) {
      const EbmlElement element = element_at(at, cluster.end());
      if (element.id == kChecksum && at == cluster.body) checksummed_.push_back({cluster.body, cluster.end()});
      if (element.id == kTimestamp) time = number(element);
      if (element.id == kSimpleBlock) read_block(element, time, true, false);
      if (element.id == kBlockGroup) walk_group(element, time);
      if (element.id == kEncryptedBlock) throw NotPlain();
      at = element.end();
    }
  }

  void walk_group(const EbmlElement& group, int64_t time) {
    EbmlElement block;
    bool is_keyframe = true, has_additions = false;
    for (int64_t at = group.body; at < group.end();) {
      const EbmlElement element = element_at(at, group.end());
      if (element.id == kBlock) block = element;
      if (element.id == kReference) is_keyframe = false;
      if (element.id == kAdditions) has_additions = true;
      at = element.end();
    }
    if (block.size > 0 && read_block(block, time, false, is_keyframe) && has_additions) throw NotPlain();
  }

  // Whether it is one of the track.
  bool read_block(const EbmlElement& element, int64_t cluster_time, bool is_simple, bool is_keyframe) {
    const int64_t wanted = std::min<int64_t>(12, element.size);
    if (element.body < peeked_at_ || element.body + wanted > peeked_at_ + peeked_) {
      peeked_at_ = element.body;
      peeked_ = source_.read(element.body, peek_, wanted);
    }
    const uint8_t* bytes = peek_ + (element.body - peeked_at_);
    const int64_t count = std::min(wanted, peeked_at_ + peeked_ - element.body);
    int64_t number = 0;
    const int length = parse_ebml_number(bytes, count, &number);
    if (length == 0 || count < length + 3) throw NotPlain();
    if (number != track_) return false;
    const auto relative = int16_t(bytes[length] << 8 | bytes[length + 1]);
    const uint8_t flags = bytes[length + 2];
    MatroskaBlock block;
    block.time = cluster_time + relative;
    block.offset = element.body + length + 3;
    const int64_t size = element.end() - block.offset;
    block.is_keyframe = is_simple ? (flags & 0x80) != 0 : is_keyframe;
    if ((flags & 0x06) || cluster_time < 0 || block.time < 0 || size > INT32_MAX) throw NotPlain();  // lacing
    block.size = int32_t(size);
    if (size > 0 && !visit_(block)) throw NotPlain();
    return true;
  }

  const ByteSource& source_;
  const Cancel* cancel_;
  const std::function<bool(const MatroskaBlock&)>& visit_;
  int64_t track_ = -1;
  uint8_t peek_[kPeek];  // what element_at() read last
  int64_t peeked_at_ = 0, peeked_ = 0;
  std::vector<ByteRange> checksummed_;
};

}  // namespace

bool is_matroska_cut_short(const ByteSource& source) {
  uint8_t bytes[12];
  EbmlElement element;
  for (const uint32_t id : {kEbmlHeader, kEbmlSegment}) {
    const int64_t at = element.body + element.size;
    if (!parse_ebml_element(bytes, source.read(at, bytes, sizeof bytes), at, &element) || element.id != id) return false;
    if (element.size == kEbmlUnknown) return false;
  }
  return element.end() > source.size();
}

std::optional<std::vector<ByteRange>> list_matroska_blocks(const ByteSource& source, const Cancel* cancel,
                                                           const std::function<bool(const MatroskaBlock&)>& visit) {
  try {
    return BlockWalk(source, cancel, visit).run();
  } catch (const NotPlain&) {
    return std::nullopt;
  }
}

}  // namespace vidload
