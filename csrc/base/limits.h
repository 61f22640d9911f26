// limits: how much one file may ask for. A few bytes can claim a picture of four gigapixels or a table of a billion entries; beyond these
// numbers a file fails with an error of its own (VideoErrorKind::limit) before memory or time is spent. For the whole process.
#pragma once

#include <cstdint>
#include <string>

namespace vidload {

struct VideoLimits {
  int64_t pixels = 8192 * 8192;       // of a picture
  int64_t packet_bytes = 256 << 20;   // of a packet
  int64_t packets = 20'000'000;       // of the video stream: 92 hours at 60 frames a second
  int64_t frames = 20'000'000;        // of the video stream
  int64_t edits = 4096;               // entries of an mp4's edit lists, in all
  int64_t streams = 1000;             // of the container
  int64_t jpeg_bytes = 64 << 20;      // of an extracted frame's file
  int64_t jpeg_pixels = 8192 * 8192;  // of an extracted frame
  double cpu_seconds = 1800;          // of processor time for one sample of a loader: to index its file, and again to decode it
};

VideoLimits video_limits();
// For what begins from now on.
void set_video_limits(const VideoLimits& limits);

// Throws VideoError (kind limit) that names `path`, both numbers and the limit, unless `value` is within it.
void check_limit(int64_t value, int64_t most, const char* what, const char* name, const std::string& path);

}  // namespace vidload
