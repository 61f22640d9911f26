// write_order: when a batch may be written, and when it has been. Our streams start writing after what the consumer had queued on its
// own stream when it handed the memory over, and the consumer's stream goes on after our last write; the host waits for neither.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "device/device.h"

namespace vidload {

// Of one batch. Safe to share between threads; before_writes and after_writes under the device's CurrentContext.
class WriteOrder {
 public:
  // `consumer`: the stream whose queued work may still use the memory.
  WriteOrder(const CudaDevice& device, CUstream consumer);
  ~WriteOrder();

  // What is queued on `writer` from now on waits for the hand-over.
  void before_writes(CUstream writer) { handed_over_->hold(writer); }
  // All that is queued on `writer` so far belongs to the batch.
  void after_writes(CUstream writer);
  // What is queued on `consumer` from now on sees all writes.
  void finish(CUstream consumer);

 private:
  const CudaDevice& device_;
  std::unique_ptr<CudaEvent> handed_over_;
  std::mutex mutex_;
  std::map<CUstream, std::unique_ptr<CudaEvent>> written_;
};

}  // namespace vidload
