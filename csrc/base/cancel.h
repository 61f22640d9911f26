// cancel: how work in progress learns that nobody waits for it any more. Asked before each read and each packet, so a scan, a decode or
// a series of reads ends soon after.
#pragma once

#include <atomic>

namespace vidload {

class Cancel {
 public:
  virtual ~Cancel() = default;
  virtual bool is_set() const = 0;
};

// Set from another thread.
class CancelFlag final : public Cancel {
 public:
  bool is_set() const override { return flag_.load(std::memory_order_relaxed); }
  void set() { flag_.store(true); }

 private:
  std::atomic<bool> flag_{false};
};

}  // namespace vidload
