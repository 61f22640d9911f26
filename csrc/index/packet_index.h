// packet_index: everything known about one video without decoding it again: how to open its decoder, where each packet lies, which
// packets may be left out, and which packet gives which frame. Plain data; packet_scan and decode/open_video fill it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "index/stream_info.h"
#include "source/byte_source.h"

namespace vidload {

enum PacketFlags : uint8_t {
  kKeyframe = 1,       // decoding may start here
  kDroppable = 2,      // no other picture depends on it
  kHidden = 4,         // no frame comes out
  kDiscard = 8,        // outside the container's edit list: decoded when others need it, never shown
  kUntrusted = 16,     // its frame comes out of a whole decode but was predicted from pictures that are not in the file
  kContainerKey = 32,  // the container flags it as a keyframe; proves nothing, but some decoders look at it (PNG in mov)
  kDamaged = 64,       // a checksum of the container or the codec says that its bytes are not those that were written
};
constexpr uint8_t kAllPacketFlags = 2 * kDamaged - 1;  // all up to the last one

struct PacketIndex {
  StreamInfo stream;
  // Packets can be read at `offset`, `size` bytes each. Otherwise the container must be demuxed to get at them.
  bool is_byte_addressable = true;
  // One packet gives one frame, and the codec's headers and the container's times agree on the order. Otherwise the frames were found by
  // decoding the whole stream (`pts` then holds each packet's place in that order), and no packet may be left out.
  bool is_regular = true;
  // Not the whole file was read, so each span must be checked before it is decoded (decode/span_check). Such an index is made anew by every
  // process, and is not stored.
  bool is_provisional = false;
  bool has_headers = true;  // if not, the container's tables were believed, and no packet is known to be droppable
  // Of a provisional index whose picture size and colors come from the first picture's headers: whether somebody has decoded that picture
  // and found it as they say. Copies share it. Null: whoever made the index has.
  std::shared_ptr<std::atomic<bool>> is_first_picture_seen;
  std::vector<ByteRange> checksummed;  // of a provisional index: parts of the file whose checksum nobody has looked at
  bool is_cut_short = false;           // the file ends inside a packet, or its container is damaged from some place on
  std::string note;                    // what was odd about the file, for people; empty if nothing
  FileStamp stamp;                     // of the file it was made from; of memory: none

  // One entry a packet, in decode order.
  std::vector<int64_t> pts, offset;  // pts in time_base ticks
  std::vector<int32_t> size;
  std::vector<uint8_t> flags;
  // One entry a frame, in presentation order.
  std::vector<int32_t> frame_packet;  // the packet it comes from
  std::vector<int64_t> frame_pts;

  int num_packets() const { return int(pts.size()); }
  int num_frames() const { return int(frame_packet.size()); }
  double frame_pts_seconds(int frame) const { return double(frame_pts[size_t(frame)]) * stream.time_base.value(); }
  int64_t bytes_held() const;

  // A self-contained copy of all of the above, for the dataset's index file. from_bytes throws Error when the bytes are of another
  // version, damaged, or make no sense, whatever they are; to_bytes when the index is provisional.
  std::vector<uint8_t> to_bytes() const;
  static PacketIndex from_bytes(const uint8_t* data, size_t size);
};

// Throws VideoError (kind limit) unless the video is within VideoLimits.
void check_limits(const PacketIndex& index, const std::string& path);

// What a pass over the packets finds.
struct PacketScan {
  PacketIndex index;          // frames are listed only if it is regular; colors and picture size are the container's word
  std::vector<int32_t> part;  // see time_parts in frame_order.h
  // What the container says where it gives some packets no pts (AV_NOPTS_VALUE); index.pts then has times made of other things. Else empty.
  std::vector<int64_t> stated_pts;
  Rational stated_time_base;
  Rational container_fps;
  int64_t last_duration = 0;  // of the last packet, in ticks
  bool tells_start = false;   // the codec's headers say where decoding can start
};

// Reads all packets without decoding any. `stream`: a number within the container, -1 for FFmpeg's choice. Throws VideoError,
// MachineError.
PacketScan scan_packets(const ByteSource& source, int stream, const Cancel* cancel);

// The same from the container's tables, reading little more than those; the index is then provisional, its frames listed. Empty where they
// cannot be trusted, or there are none: then scan_packets tells.
std::optional<PacketScan> scan_tables(const ByteSource& source, int stream, const Cancel* cancel);

// Fills average_fps and duration_seconds from frame_pts, the same way for every container; the last frame lasts as long as the median
// one. `container_fps` and `last_duration` (ticks) help where there is a single frame.
void measure_timing(PacketIndex& index, Rational container_fps, int64_t last_duration);

}  // namespace vidload
