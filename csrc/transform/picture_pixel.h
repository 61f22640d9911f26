// picture_pixel: what one CUDA thread does: one output pixel of one picture, straight from the planes. Compiled by nvcc for the kernel
// (transform_cuda.cu) and by the host compiler for its host twin (transform_cuda.cpp).
// Against the scalar twin the walk differs, not the arithmetic: each source row is resampled again for every output row it serves,
// which trades a few cached loads for having no intermediate memory and no synchronization.
#pragma once

#include "transform/pixel_math.h"
#include "transform/transform_cuda.h"

namespace vidload {

template <typename Sample>
VIDLOAD_HD float plane_value(const PlaneDescriptor& plane, int shift, int x, int y) {
  const int32_t first_column = plane.x.start[x], first_row = plane.y.start[y];
  const uint8_t* row = plane.data + first_row * plane.row_stride_bytes + first_column * plane.pixel_stride_bytes;
  float sum = 0.0f;
  for (int j = 0; j < plane.y.num_taps; ++j) {
    const uint8_t* sample = row;
    float row_sum = 0.0f;
    for (int k = 0; k < plane.x.num_taps; ++k) {
      const Sample value = *reinterpret_cast<const Sample*>(sample);
      row_sum = add_tap(row_sum, plane.x.weight[k * plane.x.stride + x], static_cast<float>(value >> shift));
      sample += plane.pixel_stride_bytes;
    }
    sum = add_tap(sum, plane.y.weight[j * plane.y.stride + y], row_sum);
    row += plane.row_stride_bytes;
  }
  return sum;
}

template <DType dtype, typename Sample>
VIDLOAD_HD void transform_pixel(const PictureDescriptor& picture, int x, int y) {
  const ColorCoefficients& color = picture.color;
  float rgb[3] = {color.offset[0], color.offset[1], color.offset[2]};
  // Planes descending, as step 3 of Note [The arithmetic] nests them. One loop body for all three keeps the kernel small.
  VIDLOAD_NO_UNROLL
  for (int p = picture.num_planes - 1; p >= 0; --p) {
    const float value = plane_value<Sample>(picture.planes[p], picture.shift, x, y);
    for (int c = 0; c < 3; ++c) rgb[c] = fmaf(color.weight[c][p], value, rgb[c]);
  }
  using Element = typename Output<dtype>::Element;
  Element* out = static_cast<Element*>(picture.out) + y * picture.row_stride + x * picture.column_stride;
  for (int c = 0; c < 3; ++c) {
    out[c * picture.channel_stride] = Output<dtype>::from(clamp_to_255(rgb[c]), picture.scale[c], picture.bias[c]);
  }
}

// Thread (x, y) of the picture's part of the grid; those outside the output do nothing.
template <DType dtype>
VIDLOAD_HD void transform_thread(const PictureDescriptor& picture, int x, int y) {
  if (x >= picture.width || y >= picture.height) return;
  if (picture.bytes_per_sample == 1) {
    transform_pixel<dtype, uint8_t>(picture, x, y);
  } else {
    transform_pixel<dtype, uint16_t>(picture, x, y);
  }
}

}  // namespace vidload
