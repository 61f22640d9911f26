// transform_cuda: the fused kernel, one for each output dtype, many pictures in one launch (transform_cuda.h tells how to launch).
// A thread makes one output pixel; a warp makes 32 neighbors of a row, so that its loads and stores fall together. Compiled with
// -fmad=false: every fused multiply-add is written out, and the bits are those of the CPU twins.
#include "transform/picture_pixel.h"

namespace vidload {

template <DType dtype>
__device__ __forceinline__ void transform_pictures(const PictureDescriptor* __restrict__ descriptors) {
  const int x = blockIdx.x * kBlockWidth + threadIdx.x, y = blockIdx.y * kBlockHeight + threadIdx.y;
  transform_thread<dtype>(descriptors[blockIdx.z], x, y);
}

}  // namespace vidload

// descriptors is (pictures) of vidload::PictureDescriptor
#define VIDLOAD_TRANSFORM_KERNEL(dtype)                                                       \
  extern "C" __global__ void __launch_bounds__(vidload::kBlockWidth* vidload::kBlockHeight)   \
      vidload_transform_##dtype(const vidload::PictureDescriptor* __restrict__ descriptors) { \
    vidload::transform_pictures<vidload::DType::dtype>(descriptors);                          \
  }

VIDLOAD_TRANSFORM_KERNEL(uint8)
VIDLOAD_TRANSFORM_KERNEL(float16)
VIDLOAD_TRANSFORM_KERNEL(bfloat16)
VIDLOAD_TRANSFORM_KERNEL(float32)
