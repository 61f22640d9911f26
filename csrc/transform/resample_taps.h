// resample_taps: which samples of a row (or column) make each output sample, and with what weights. Computed once on the host,
// in double, and read by every twin. See Note [Resampling] for the formulae.
#pragma once

#include <cstdint>

#include "transform/aligned_vector.h"

namespace vidload {

// Output i looks at the plane's coordinate first_center + i * step, where sample k spans [k, k + 1].
struct ResampleAxis {
  int source_size;
  double first_center, step;
  int num_outputs;
  bool antialias;
  bool flip;  // outputs in reversed order
};

// Output i is the sum over k of weight[k * stride + i] * sample[start[i] + k], taps in ascending order. All num_taps samples lie
// inside the plane. Taps an output does not need have weight 0, at either end.
struct ResampleTaps {
  int source_size = 0, num_outputs = 0, num_taps = 0;
  int stride = 0;                // num_outputs rounded up to kOutputPadding; the padding repeats the last start with weight 0
  AlignedVector<int32_t> start;  // [stride]
  AlignedVector<float> weight;   // [num_taps, stride]
};

constexpr int kOutputPadding = 16;  // outputs a vector kernel computes at once, at most

// Fills `taps`, reusing its memory.
void resample_taps(const ResampleAxis& axis, ResampleTaps& taps);

}  // namespace vidload
