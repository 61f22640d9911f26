// sample_cancel: what stops work on one sample: its batch was given up, or it has used up its processor time.
#pragma once

#include <chrono>
#include <string>

#include "base/cancel.h"
#include "base/limits.h"

namespace vidload {

// For the thread that made it.
class SampleCancel final : public Cancel {
 public:
  // `caller`: what stops the calling thread, where it does the work itself; may be null. All must outlive this.
  SampleCancel(const CancelFlag& batch, const Cancel* caller, const std::string& path);
  // Throws VideoError (kind limit) when the time is used up.
  bool is_set() const override;

 private:
  const CancelFlag& batch_;
  const Cancel* caller_;
  const std::string& path_;
  const double max_seconds_, start_seconds_;
  mutable std::chrono::steady_clock::time_point next_look_;
};

}  // namespace vidload
