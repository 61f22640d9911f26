// open_video: bytes -> a complete PacketIndex. The scan of the packets, the facts that only a decoded picture tells (its true size, pixel
// format, colors), and for irregular streams the list of frames that a decode of the whole stream gives.
#pragma once

#include "index/packet_index.h"

namespace vidload {

// Throws VideoError.
PacketIndex index_video(const ByteSource& source);

}  // namespace vidload
