// open_video: bytes -> a PacketIndex. The container's tables, or a scan of the packets; the facts that only a decoded picture tells (its
// true size, pixel format, colors); and where headers and times do not tell the frames, or contradict each other, the list of frames that a
// decode of the whole stream gives, with the keyframes from which decoding was seen to give them again.
#pragma once

#include "index/packet_index.h"

namespace vidload {

// How much of a file is read to index it.
enum class IndexDepth {
  tables,   // what the container lists, where that can be trusted: the index is provisional then; else as packets
  packets,  // every packet's header, and where those do not tell, as decoded
  decoded   // all frames, whatever the headers say, after they were seen to be wrong
};

// `stream`: its number within the container, -1 for FFmpeg's choice. Throws VideoError, MachineError, bad_alloc.
PacketIndex index_video(const ByteSource& source, int stream = -1, IndexDepth depth = IndexDepth::packets, const Cancel* cancel = nullptr);

}  // namespace vidload
