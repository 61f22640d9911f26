// row_kernels: what a CPU level implements: the horizontal pass of one source row, and the vertical pass with everything after it
// of one output row. transform.cpp walks the rows and calls through this table; transform_scalar.cpp fills it first, a faster
// level overwrites the entries it has.
#pragma once

#include <cstddef>
#include <cstdint>

#include "picture/picture.h"
#include "transform/resample_taps.h"
#include "transform/tap_windows.h"
#include "transform/transform_spec.h"
#include "transform/yuv_matrix.h"

namespace vidload {

struct HorizontalTaps {
  const ResampleTaps& taps;
  const TapWindows& windows;  // filled only where RowKernels::uses_windows
};

// One output row: the planes' horizontally resampled rows under the taps of the vertical pass, and where the pixels go.
struct VerticalPass {
  int num_planes, width;
  int num_taps[3];
  const float* const* rows[3];  // rows[plane][tap]: kOutputPadding-padded float rows
  const float* weights[3];      // weights[plane][tap]
  const ColorCoefficients* color;
  const float *scale, *bias;  // [3]: step 4 of Note [The arithmetic]
  void* out;                  // element (channel 0, this row, column 0)
  ptrdiff_t channel_stride;   // planar only
};

// Two source rows of one plane size and where their outputs go. A single row comes twice.
struct RowPair {
  const uint8_t* source[2];  // contiguous samples, source_size of them; nothing outside is read
  float* out[2];             // [taps.stride] floats
};

struct RowKernels {
  bool uses_windows;
  void (*horizontal[2 /* bytes_per_sample - 1 */])(const RowPair& rows, int shift, const HorizontalTaps& taps);
  // Writes width pixels and nothing beside them.
  void (*vertical[kNumDTypes][2 /* planar, channels-last */])(const VerticalPass& pass);
};

void fill_row_kernels_scalar(RowKernels& kernels);
void fill_row_kernels_avx2(RowKernels& kernels);
void fill_row_kernels_avx512(RowKernels& kernels);
void fill_row_kernels_neon(RowKernels& kernels);

}  // namespace vidload
