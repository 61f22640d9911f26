// matroska_checksums: FFmpeg and some other muxers write a CRC-32 into each cluster of a Matroska file; libavformat does not look at it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/cancel.h"
#include "source/byte_source.h"

namespace vidload {

// Follows the reading of a file, so that its checksums cost no reading of their own.
class ClusterChecksums {
 public:
  // `source` is read for element headers, and at finish() for what did not pass. Both must outlive it.
  ClusterChecksums(const ByteSource& source, const Cancel* cancel) : source_(source), cancel_(cancel) {}
  // Takes bytes of the file; heeded where they go on from what passed before.
  void pass(int64_t offset, const uint8_t* data, int64_t size);
  // The clusters whose bytes are not those of their CRC-32, in rising order; empty where there are no checksums or no Matroska file.
  // Throws as the source's read(), VideoError (kind cancelled).
  std::vector<ByteRange> finish();

  // Of one cluster alone, by its body.
  static bool is_damaged(const ByteSource& source, const ByteRange& cluster, const Cancel* cancel);

 private:
  void read_headers(int64_t end);
  bool begin_cluster(const ByteRange& cluster);
  bool take_cluster();

  const ByteSource& source_;
  const Cancel* cancel_;
  std::vector<ByteRange> damaged_;
  int64_t at_ = 0;       // what lies before has been seen to, or needs not be
  bool is_end_ = false;  // nothing that follows has a checksum
  // The cluster at at_, where it has a checksum, else its end is 0.
  ByteRange cluster_;
  uint32_t stated_ = 0, crc_ = 0;
};

}  // namespace vidload
