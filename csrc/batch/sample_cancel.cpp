#include "batch/sample_cancel.h"

#include <cstdio>
#include <ctime>

#include "base/error.h"

namespace vidload {

static double thread_seconds() {
  timespec now = {};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

SampleCancel::SampleCancel(const CancelFlag& batch, const Cancel* caller, const std::string& path)
    : batch_(batch), caller_(caller), path_(path), max_seconds_(video_limits().cpu_seconds), start_seconds_(thread_seconds()) {}

bool SampleCancel::is_set() const {
  if (batch_.is_set() || (caller_ && caller_->is_set())) return true;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_look_) return false;  // the thread's clock is a system call
  next_look_ = now + std::chrono::milliseconds(100);
  if (thread_seconds() - start_seconds_ <= max_seconds_) return false;
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%g", max_seconds_);
  throw VideoError(VideoErrorKind::limit, path_, -1,
                   std::string("takes more processor time than the limit, cpu_seconds=") + seconds +
                       "; leave the file out, or raise it with vidload.set_limits");
}

}  // namespace vidload
