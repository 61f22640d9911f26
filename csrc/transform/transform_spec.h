// transform_spec: what is wanted of a picture, in plain structs that every twin reads.
#pragma once

#include <algorithm>
#include <cstddef>

#include "picture/picture.h"

namespace vidload {

// Of the output.
enum class DType { uint8, float16, bfloat16, float32 };
constexpr int kNumDTypes = 4;
static_assert(int(DType::float32) == kNumDTypes - 1, "tables by DType have an entry for each");

// In display luma pixels; may be fractional, larger or smaller than the output, and partly outside the picture (edges repeat).
struct CropBox {
  double top, left, height, width;
  bool flip;  // mirror the output left to right
};

struct TransformSpec {
  int height, width;  // of the output
  DType dtype;
  bool antialias;         // true: triangle filter as wide as the shrinking asks (torch, Pillow); false: plain bilinear (OpenCV)
  bool normalize;         // float dtypes: (value - mean) / std; uint8 is never normalized
  float mean[3], std[3];  // R, G, B on the 0-255 scale
};

// Whether tables made for one serve the other.
inline bool operator==(const TransformSpec& a, const TransformSpec& b) {
  return a.height == b.height && a.width == b.width && a.dtype == b.dtype && a.antialias == b.antialias && a.normalize == b.normalize &&
         std::equal(a.mean, a.mean + 3, b.mean) && std::equal(a.std, a.std + 3, b.std);
}

// Where to write, strides in elements. Planar (column_stride 1) or channels-last (channel_stride 1, column_stride 3).
struct OutputView {
  void* data;
  ptrdiff_t channel_stride, row_stride, column_stride;
};

}  // namespace vidload
