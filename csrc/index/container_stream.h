// container_stream: what a container states of its video stream.
#pragma once

#include "index/packet_index.h"
#include "source/container.h"

namespace vidload {

StreamInfo stream_info(const Container& container);

// A scan before its first packet. Throws VideoError (kind limit).
PacketScan begin_scan(const Container& container, const ByteSource& source);

// Frames per second by the container's word; 0 where it has none.
Rational stated_fps(const Container& container);

}  // namespace vidload
