#include "transform/transform_cuda.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "transform/picture_pixel.h"

namespace vidload {

static_assert(std::is_trivially_copyable_v<PictureDescriptor> && std::is_standard_layout_v<PictureDescriptor>,
              "descriptors are copied to the device as bytes");
static_assert(sizeof(PictureDescriptor) == 3 * 72 + 8 + 24 + 24 + 48 + 24,
              "the device's compiler must lay PictureDescriptor out as the host's does: no padding that they could disagree on");

// ---- descriptors ----

static size_t aligned(size_t bytes) { return (bytes + 15) / 16 * 16; }
static size_t start_bytes(const ResampleTaps& taps) { return aligned(taps.start.size() * sizeof(int32_t)); }
static size_t axis_bytes(const ResampleTaps& taps) { return start_bytes(taps) + aligned(taps.weight.size() * sizeof(float)); }

// Calls visit(taps, offset of the axis in the table) for every axis in table order; returns the table's size.
template <typename Visit>
static size_t for_each_axis(const TransformPlan& plan, Visit visit) {
  size_t offset = 0;
  for (int p = 0; p < std::min(plan.num_planes(), 2); ++p) {
    for (const ResampleTaps* taps : {&plan.taps(p).horizontal, &plan.taps(p).vertical}) {
      visit(*taps, offset);
      offset += axis_bytes(*taps);
    }
  }
  return offset;
}

size_t tap_table_bytes(const TransformPlan& plan) {
  return for_each_axis(plan, [](const ResampleTaps&, size_t) {});
}

void write_tap_table(const TransformPlan& plan, void* table) {
  for_each_axis(plan, [&](const ResampleTaps& taps, size_t offset) {
    uint8_t* to = static_cast<uint8_t*>(table) + offset;
    std::memcpy(to, taps.start.data(), taps.start.size() * sizeof(int32_t));
    std::memcpy(to + start_bytes(taps), taps.weight.data(), taps.weight.size() * sizeof(float));
  });
}

PictureDescriptor picture_descriptor(const TransformPlan& plan, const PictureView& picture, const OutputView& out, const void* tap_table) {
  plan.check(picture, out);
  TapsDescriptor axes[4] = {};  // luma x, luma y, chroma x, chroma y
  TapsDescriptor* axis = axes;
  for_each_axis(plan, [&](const ResampleTaps& taps, size_t offset) {
    const uint8_t* at = static_cast<const uint8_t*>(tap_table) + offset;
    *axis++ = {reinterpret_cast<const int32_t*>(at), reinterpret_cast<const float*>(at + start_bytes(taps)), taps.num_taps, taps.stride};
  });

  PictureDescriptor descriptor{};
  for (int p = 0; p < picture.num_planes; ++p) {
    const PlaneView& plane = picture.planes[p];
    const TapsDescriptor* taps = p == 0 ? axes : axes + 2;
    descriptor.planes[p] = {plane.data, plane.row_stride_bytes, plane.pixel_stride_bytes, taps[0], taps[1]};
  }
  descriptor.out = out.data;
  descriptor.channel_stride = out.channel_stride;
  descriptor.row_stride = out.row_stride;
  descriptor.column_stride = out.column_stride;
  descriptor.height = plan.spec().height;
  descriptor.width = plan.spec().width;
  descriptor.num_planes = picture.num_planes;
  descriptor.bytes_per_sample = picture.bytes_per_sample;
  descriptor.shift = picture.shift;
  descriptor.color = plan.color();
  std::copy_n(plan.scale(), 3, descriptor.scale);
  std::copy_n(plan.bias(), 3, descriptor.bias);
  return descriptor;
}

// ---- the host twin ----

template <DType dtype>
static void transform_on_host(const PictureDescriptor* descriptors, int count) {
  for (int n = 0; n < count; ++n) {
    for (int y = 0; y < descriptors[n].height; ++y) {
      for (int x = 0; x < descriptors[n].width; ++x) transform_thread<dtype>(descriptors[n], x, y);
    }
  }
}

void transform_on_host(const PictureDescriptor* descriptors, int count, DType dtype) {
  switch (dtype) {
    case DType::uint8: return transform_on_host<DType::uint8>(descriptors, count);
    case DType::float16: return transform_on_host<DType::float16>(descriptors, count);
    case DType::bfloat16: return transform_on_host<DType::bfloat16>(descriptors, count);
    case DType::float32: return transform_on_host<DType::float32>(descriptors, count);
  }
}

// ---- the compiled kernels ----

const char* transform_kernel_name(DType dtype) {
  switch (dtype) {
    case DType::uint8: return "vidload_transform_uint8";
    case DType::float16: return "vidload_transform_float16";
    case DType::bfloat16: return "vidload_transform_bfloat16";
    case DType::float32: break;
  }
  return "vidload_transform_float32";
}

}  // namespace vidload

#if defined(VIDLOAD_CUDA_FATBIN)

// The assembler copies the file in; nothing need be generated, and the bytes stay out of the compiler.
#define VIDLOAD_EMBED(symbol, file)                                                                                                \
  asm(".pushsection .rodata\n.balign 16\n.hidden " #symbol "_begin\n.globl " #symbol "_begin\n" #symbol "_begin:\n.incbin \"" file \
      "\"\n.hidden " #symbol "_end\n.globl " #symbol "_end\n" #symbol "_end:\n.byte 0\n.popsection\n");

VIDLOAD_EMBED(vidload_fatbin, VIDLOAD_CUDA_FATBIN)
VIDLOAD_EMBED(vidload_ptx, VIDLOAD_CUDA_PTX)

extern "C" {
extern const uint8_t vidload_fatbin_begin[] __attribute__((visibility("hidden")));
extern const uint8_t vidload_fatbin_end[] __attribute__((visibility("hidden")));
extern const uint8_t vidload_ptx_begin[] __attribute__((visibility("hidden")));
extern const uint8_t vidload_ptx_end[] __attribute__((visibility("hidden")));
}

namespace vidload {
bool has_cuda_kernels() { return true; }
ByteView cuda_fatbin() { return {vidload_fatbin_begin, static_cast<size_t>(vidload_fatbin_end - vidload_fatbin_begin)}; }
ByteView cuda_ptx() { return {vidload_ptx_begin, static_cast<size_t>(vidload_ptx_end - vidload_ptx_begin)}; }
}  // namespace vidload

#else

namespace vidload {
bool has_cuda_kernels() { return false; }
ByteView cuda_fatbin() { return {nullptr, 0}; }
ByteView cuda_ptx() { return {nullptr, 0}; }
}  // namespace vidload

#endif
