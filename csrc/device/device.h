// device: one GPU as the loader uses it: its primary context (the one torch uses), the transform's kernels, and owners for streams,
// events and memory. Nothing here stays current on a caller's thread: a CurrentContext is held around driver calls.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "device/driver.h"
#include "transform/transform_spec.h"

namespace vidload {

class CudaDevice {
 public:
  // The device of that number, started at the first call: driver initialized, primary context retained, kernels loaded. It lives until
  // the process ends, since threads may use it to the last. Throws CudaError: no driver, no such device, no kernels in this build, or a
  // child process forked after CUDA was started.
  static CudaDevice& get(int ordinal);

  int ordinal() const { return ordinal_; }
  CUcontext context() const { return context_; }
  CUfunction kernel(DType dtype) const { return kernels_[int(dtype)]; }

 private:
  explicit CudaDevice(int ordinal);

  int ordinal_;
  CUcontext context_ = nullptr;
  CUfunction kernels_[kNumDTypes] = {};
};

struct CudaDeviceInfo {
  std::string name;
  std::string pci_address;  // "0000:3b:00.0": by which NVML finds it
  int major = 0, minor = 0;
  int64_t memory_bytes = 0;
};

// The devices, for people; initializes the driver. Throws CudaError.
std::vector<CudaDeviceInfo> cuda_devices(int* driver_version);

// The device's context, current on this thread while the object lives. Throws CudaError in a child forked after CUDA was started.
class CurrentContext {
 public:
  explicit CurrentContext(const CudaDevice& device);
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;
};

// The owners below are made, used and destroyed under a CurrentContext. Their destructors ignore errors: a process that is ending may
// have no driver any more.

class CudaStream {
 public:
  CudaStream();
  ~CudaStream();
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  CUstream get() const { return stream_; }

 private:
  CUstream stream_ = nullptr;
};

class CudaEvent {
 public:
  CudaEvent();
  ~CudaEvent();
  CudaEvent(CudaEvent&& other) noexcept : event_(other.event_) { other.event_ = nullptr; }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  void record(CUstream stream);
  void synchronize();          // the calling thread waits
  void hold(CUstream stream);  // what is queued on `stream` from now on waits

 private:
  CUevent event_ = nullptr;
};

// Memory that only grows; growing loses the contents, and nothing may be using the old memory then.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept : memory_(other.memory_), size_(other.size_) { other.memory_ = 0, other.size_ = 0; }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  void reserve(size_t bytes);
  size_t size() const { return size_; }
  CUdeviceptr get() const { return memory_; }

 private:
  CUdeviceptr memory_ = 0;
  size_t size_ = 0;
};

class PinnedMemory {
 public:
  PinnedMemory() = default;
  ~PinnedMemory();
  PinnedMemory(PinnedMemory&& other) noexcept : memory_(other.memory_), size_(other.size_) { other.memory_ = nullptr, other.size_ = 0; }
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  void reserve(size_t bytes);
  size_t size() const { return size_; }
  uint8_t* get() const { return memory_; }

 private:
  uint8_t* memory_ = nullptr;
  size_t size_ = 0;
};

// What DeviceMemory and PinnedMemory hold now, in the whole process. NVDEC's own surfaces are not among it.
struct CudaMemoryHeld {
  int64_t device_bytes = 0, pinned_bytes = 0;
};
CudaMemoryHeld cuda_memory_held();

}  // namespace vidload
