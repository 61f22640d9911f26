// matroska_checksums: FFmpeg and some other muxers write a CRC-32 into each cluster of a Matroska file; libavformat does not look at it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/cancel.h"
#include "source/byte_source.h"

namespace vidload {

struct ByteRange {
  int64_t begin = 0, end = 0;
};

// The clusters whose bytes are not those of their CRC-32, in rising order; empty where there are no checksums or no Matroska file.
// Reads the clusters that have one. Throws as the source's read(), VideoError (kind cancelled).
std::vector<ByteRange> damaged_clusters(const ByteSource& source, const Cancel* cancel);

}  // namespace vidload
