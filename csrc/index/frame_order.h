// frame_order: in which order a codec's decoder shows the pictures of a stream, from what packet_headers says, without decoding; and
// times that rise along that order, from a container's timestamps.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "index/packet_headers.h"

namespace vidload {

// The packets that give a frame, in presentation order. Empty optional: the headers do not tell, or one packet is not one frame, or the
// stream begins with pictures that lack what they were predicted from; then only a decode tells. HEVC's leading pictures that are skipped
// at the start are marked as not shown in `facts`.
std::optional<std::vector<int32_t>> coded_frame_order(OrderRule rule, std::vector<PacketFacts>& facts);

// Packets in the order of their times; those of equal time stay as they are.
std::vector<int32_t> order_by_time(const std::vector<int64_t>& times);

// For each packet kKeyframe, kHidden, kDroppable, as far as its header tells. After coded_frame_order.
std::vector<uint8_t> packet_flags(const std::vector<PacketFacts>& facts);

// The most frames, up to 16, that are decoded before and shown after any one frame. `order`: packets in presentation order.
int reorder_depth(const std::vector<int32_t>& order, size_t num_packets);

// Labels for frames whose order is known. `times`: of the packet of each frame; `part`: which of the parts of the file it is in (their
// clocks do not go on from one to the next, see time_parts). Within a part the times are put into rising order; a part that does not
// begin after the one before it is moved behind it, one median frame later (one of `frame_ticks` where no two times tell); a time equal to
// the one before is moved by a tick. Frames that all have one time get `frame_ticks` each.
std::vector<int64_t> rising_times(const std::vector<int64_t>& times, const std::vector<int32_t>& part, int64_t frame_ticks);

// For each packet in decode order: 0 up to where decode times (AV_NOPTS_VALUE: unknown) first fall, then 1, and so on: recordings that
// were spliced together.
std::vector<int32_t> time_parts(const std::vector<int64_t>& dts);

}  // namespace vidload
