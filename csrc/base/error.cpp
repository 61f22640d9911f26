#include "base/error.h"

#include <cerrno>
#include <cstring>
#include <utility>

namespace vidload {

static std::string message(const std::string& path, int64_t frame, const std::string& reason) {
  std::string text = path + ": ";
  if (frame >= 0) text += "frame " + std::to_string(frame) + ": ";
  return text + reason;
}

const char* error_kind_name(VideoErrorKind kind) {
  switch (kind) {
    case VideoErrorKind::not_found: return "not_found";
    case VideoErrorKind::unreadable: return "unreadable";
    case VideoErrorKind::unsupported: return "unsupported";
    case VideoErrorKind::damaged: return "damaged";
    case VideoErrorKind::frame_index: return "frame_index";
    case VideoErrorKind::cancelled: return "cancelled";
    case VideoErrorKind::index_mismatch: return "index_mismatch";
    case VideoErrorKind::limit: return "limit";
  }
  return "unknown";
}

VideoError::VideoError(VideoErrorKind kind, std::string path, int64_t frame, std::string reason, int av_error)
    : Error(message(path, frame, reason)),
      kind_(kind),
      path_(std::move(path)),
      frame_(frame),
      reason_(std::move(reason)),
      av_error_(av_error) {}

MachineError::MachineError(int error_number, std::string path, const std::string& action)
    : std::runtime_error(path + ": " + action + ": " + std::strerror(error_number)),
      error_number_(error_number),
      path_(std::move(path)),
      action_(action) {}

bool is_file_error(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
    case EACCES:
    case EPERM:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case EINVAL:
    case EOVERFLOW: return true;
    default: return false;
  }
}

}  // namespace vidload
