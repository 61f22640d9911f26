// device_transform: pictures in, pixels in device memory out, all queued on one stream: the CUDA counterpart of transform/Resampler.
// Of a picture in host memory, the rows and columns that are needed are packed into pinned staging memory and go up in one copy; one on
// the device (NVDEC's) is read where it lies. One launch makes everything that is wanted of a picture: each clip, view and repeat of it.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "device/device.h"
#include "transform/transform_cuda.h"

namespace vidload {

// One of a picture's places in the batch. Views of one number share tables, which last while box and geometry stay the same.
struct DevicePlacement {
  size_t view;
  CropBox box;
  OutputView out;  // data is the device's
};

enum class PictureMemory { host, device };

// For one thread at a time, under the device's CurrentContext.
class DeviceTransform {
 public:
  explicit DeviceTransform(const CudaDevice& device);
  // Waits for what is queued.
  ~DeviceTransform();
  DeviceTransform(const DeviceTransform&) = delete;
  DeviceTransform& operator=(const DeviceTransform&) = delete;

  // Queues the pixels of `picture` and returns how many bytes go up for them. Host memory may change as soon as this returns; device memory
  // must stay until the stream has passed this point. Waits only when kNumSlots pictures are still under way. Throws Error for a picture or
  // a box that makes no sense, CudaError.
  int64_t run(const TransformSpec& spec, const PictureView& picture, PictureMemory memory, const std::vector<DevicePlacement>& placements);

  CUstream stream() const { return stream_.get(); }
  void synchronize();
  const CudaDevice& device() const { return device_; }

  static constexpr size_t kNumSlots = 4;

 private:
  struct View {
    explicit View(const TransformSpec& spec) : plan(spec) {}
    TransformPlan plan;
    DeviceMemory table;
    size_t table_offset = 0;  // in the slot, when the table is being replaced
    bool is_new = false;
  };
  // Staging memory of one picture: descriptors, planes, new tables.
  struct Slot {
    PinnedMemory host;
    DeviceMemory device;
    CudaEvent done;
    bool is_used = false;
  };
  void launch(const PictureDescriptor* descriptors, size_t count, const TransformSpec& spec);

  const CudaDevice& device_;
  CudaStream stream_;
  std::array<Slot, kNumSlots> slots_;
  size_t next_slot_ = 0;
  TransformSpec spec_ = {};
  std::vector<View> views_;
};

// Destroys it under its device's context, or leaks it where there is none any more: in a forked child, or as the process ends.
struct DeviceTransformDeleter {
  void operator()(DeviceTransform* transform) const;
};
using UniqueDeviceTransform = std::unique_ptr<DeviceTransform, DeviceTransformDeleter>;
UniqueDeviceTransform make_device_transform(const CudaDevice& device);

}  // namespace vidload
