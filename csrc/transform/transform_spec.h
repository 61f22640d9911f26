// transform_spec: what is wanted of a picture, in plain structs that every twin reads.
#pragma once

#include <cstddef>

#include "transform/picture.h"

namespace vidload {

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

// Where to write, strides in elements. Planar (column_stride 1) or channels-last (channel_stride 1, column_stride 3).
struct OutputView {
  void* data;
  ptrdiff_t channel_stride, row_stride, column_stride;
};

}  // namespace vidload
