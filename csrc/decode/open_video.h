// open_video: bytes -> a complete PacketIndex. The scan of the packets; the facts that only a decoded picture tells (its true size, pixel
// format, colors); and where headers and times do not tell the frames, or contradict each other, the list of frames that a decode of the
// whole stream gives, with the keyframes from which decoding was seen to give them again.
#pragma once

#include "index/packet_index.h"

namespace vidload {

// `stream`: its number within the container, -1 for FFmpeg's choice. `must_decode`: lists the frames by a decode whatever the headers
// say, after they were seen to be wrong. Throws VideoError, MachineError, bad_alloc.
PacketIndex index_video(const ByteSource& source, int stream = -1, bool must_decode = false, const Cancel* cancel = nullptr);

}  // namespace vidload
