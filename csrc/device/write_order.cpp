#include "device/write_order.h"

#include <utility>

namespace vidload {

WriteOrder::WriteOrder(const CudaDevice& device, CUstream consumer) : device_(device) {
  const CurrentContext current(device_);
  handed_over_ = std::make_unique<CudaEvent>();
  handed_over_->record(consumer);
}

WriteOrder::~WriteOrder() {
  try {
    const CurrentContext current(device_);
    handed_over_.reset();
    written_.clear();
  } catch (const CudaError&) {  // a forked child, or the process is ending and the driver has gone before
    handed_over_.release();
    new auto(std::move(written_));
  }
}

void WriteOrder::after_writes(CUstream writer) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::unique_ptr<CudaEvent>& event = written_[writer];
  if (!event) event = std::make_unique<CudaEvent>();
  event->record(writer);
}

void WriteOrder::finish(CUstream consumer) {
  const CurrentContext current(device_);
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto& [writer, event] : written_) event->hold(consumer);
}

}  // namespace vidload
