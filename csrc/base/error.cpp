#include "base/error.h"

#include <utility>

namespace vidload {

static std::string message(const std::string& path, int64_t frame, const std::string& reason) {
  std::string text = path + ": ";
  if (frame >= 0) text += "frame " + std::to_string(frame) + ": ";
  return text + reason;
}

VideoError::VideoError(VideoErrorKind kind, std::string path, int64_t frame, std::string reason, int av_error)
    : Error(message(path, frame, reason)),
      kind_(kind),
      path_(std::move(path)),
      frame_(frame),
      reason_(std::move(reason)),
      av_error_(av_error) {}

}  // namespace vidload
