#include "base/limits.h"

#include <mutex>

#include "base/error.h"

namespace vidload {
namespace {

std::mutex mutex;
VideoLimits current;

}  // namespace

VideoLimits video_limits() {
  const std::lock_guard<std::mutex> lock(mutex);
  return current;
}

void set_video_limits(const VideoLimits& limits) {
  const std::lock_guard<std::mutex> lock(mutex);
  current = limits;
}

void check_limit(int64_t value, int64_t most, const char* what, const char* name, const std::string& path) {
  if (value <= most) return;
  throw VideoError(VideoErrorKind::limit, path, -1,
                   std::to_string(value) + " " + what + " are more than the limit, " + name + "=" + std::to_string(most) +
                       "; leave the file out, or raise it with vidload.set_limits");
}

}  // namespace vidload
