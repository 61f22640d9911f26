// transform_cuda: the CUDA twin as the host sees it: what the kernel reads, how a plan becomes that, and the compiled kernels as bytes.
// Needs no CUDA header and no driver. Launching is left to the caller (device/device_transform), through the driver API:
//
//   kernel    transform_kernel_name(dtype), in the module loaded from cuda_fatbin(), or from cuda_ptx() where a driver is older than the
//   compiler argument  one pointer: PictureDescriptor[n] in memory the device can read block     kBlockWidth x kBlockHeight x 1 grid
//   ceil(width / kBlockWidth) x ceil(height / kBlockHeight) x n, at most 65535 pictures; width and height of the largest output
//
// Pictures of one launch may differ in everything but the dtype. All memory named by a descriptor must outlive the launch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "transform/transform_plan.h"

namespace vidload {

constexpr int kBlockWidth = 32, kBlockHeight = 8;

// The taps of one axis; see ResampleTaps.
struct TapsDescriptor {
  const int32_t* start;  // [outputs]
  const float* weight;   // [num_taps, stride]
  int32_t num_taps, stride;
};

// 16-bit samples must lie at even addresses.
struct PlaneDescriptor {
  const uint8_t* data;
  int64_t row_stride_bytes, pixel_stride_bytes;
  TapsDescriptor x, y;
};

// One picture of a launch. Pointers are the device's.
struct PictureDescriptor {
  PlaneDescriptor planes[3];
  void* out;
  int64_t channel_stride, row_stride, column_stride;  // in elements; any strides will do
  int32_t height, width;                              // of the output
  int32_t num_planes, bytes_per_sample, shift;
  ColorCoefficients color;
  float scale[3], bias[3];
};

// A plan's taps as one block of bytes, which pictures of that plan share: copy it to where the device can read it, 16-byte aligned.
size_t tap_table_bytes(const TransformPlan& plan);
void write_tap_table(const TransformPlan& plan, void* table);

// Describes one picture. Planes, out and tap_table are pointers of the device; nothing is read through them. Throws Error if
// the picture is not like the plan's.
PictureDescriptor picture_descriptor(const TransformPlan& plan, const PictureView& picture, const OutputView& out, const void* tap_table);

// "vidload_transform_uint8" and so on.
const char* transform_kernel_name(DType dtype);

// Whether this build has compiled kernels (it had nvcc).
bool has_cuda_kernels();

struct ByteView {
  const uint8_t* data;
  size_t size;
};

// The kernels for every architecture of the build as a CUDA fatbin, and their PTX as text; empty without kernels.
ByteView cuda_fatbin();
ByteView cuda_ptx();

// The kernel's host twin: the very function each CUDA thread runs, over every thread of the grid. Descriptors then hold host pointers.
void transform_on_host(const PictureDescriptor* descriptors, int count, DType dtype);

}  // namespace vidload
