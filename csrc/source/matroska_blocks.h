// matroska_blocks: where the blocks of a Matroska or WebM file's video track lie, from the headers of its elements alone.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "base/cancel.h"
#include "source/byte_source.h"

namespace vidload {

struct MatroskaBlock {
  int64_t time = 0;    // in units of the segment's timestamp scale
  int64_t offset = 0;  // of the payload
  int32_t size = 0;
  bool is_keyframe = false;  // the container's word
};

// Tells `visit` of each block of the one video track, in file order, until that returns false. Gives the clusters that have a checksum.
// Empty where the bytes are no such file, hold several video tracks, or store blocks in a way (lacing, compression, encryption, additions,
// unknown sizes) that needs a demuxer; where the file ends early; and where `visit` returned false. A block's header is read with the
// first bytes of its payload, so that a source that keeps what was read last (RecentBytes) has them. Throws as the source's read(),
// VideoError (kind cancelled).
std::optional<std::vector<ByteRange>> list_matroska_blocks(const ByteSource& source, const Cancel* cancel,
                                                           const std::function<bool(const MatroskaBlock&)>& visit);

// Whether a Matroska or WebM file ends before its segment does.
bool is_matroska_cut_short(const ByteSource& source);

}  // namespace vidload
