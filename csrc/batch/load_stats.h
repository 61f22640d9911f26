// load_stats: what was done and how long each stage took, summed over threads.
#pragma once

#include <array>
#include <cstdint>

#include "decode/fallback.h"

namespace vidload {

struct LoadStats {
  int64_t num_samples = 0, num_failed = 0;
  int64_t num_files_scanned = 0;    // indexed by reading the file, not from an index
  int64_t num_files_decoded = 0;    // indexed by decoding the file, after decoding had contradicted the index it had
  int64_t num_entries_refused = 0;  // of an index: damaged, or of another file or version
  int64_t num_frames = 0;           // pictures written to batches
  int64_t num_packets_decoded = 0, num_packets_dropped = 0, num_packets_skipped = 0;
  int64_t num_decoders_opened = 0;  // of libavcodec: one for each thread and kind of stream, if these are few
  int64_t bytes_read = 0;
  // By hardware decoders.
  int64_t num_hardware_samples = 0, num_hardware_creations = 0;
  int64_t bytes_uploaded = 0;  // to a GPU
  std::array<int64_t, kNumFallbacks> num_fallbacks = {};
  double index_seconds = 0, read_seconds = 0, decode_seconds = 0, transform_seconds = 0;

  void add(const LoadStats& other) {
    num_samples += other.num_samples, num_failed += other.num_failed, num_files_scanned += other.num_files_scanned;
    num_files_decoded += other.num_files_decoded, num_entries_refused += other.num_entries_refused;
    num_frames += other.num_frames, num_packets_decoded += other.num_packets_decoded;
    num_packets_dropped += other.num_packets_dropped, num_packets_skipped += other.num_packets_skipped;
    num_decoders_opened += other.num_decoders_opened;
    bytes_read += other.bytes_read, index_seconds += other.index_seconds, read_seconds += other.read_seconds;
    num_hardware_samples += other.num_hardware_samples, num_hardware_creations += other.num_hardware_creations;
    bytes_uploaded += other.bytes_uploaded;
    for (size_t i = 0; i < num_fallbacks.size(); ++i) num_fallbacks[i] += other.num_fallbacks[i];
    decode_seconds += other.decode_seconds, transform_seconds += other.transform_seconds;
  }
};

}  // namespace vidload
