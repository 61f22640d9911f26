// row_kernels: what a CPU level implements: the horizontal pass of one source row, and the vertical pass with everything after it
// of one output row. transform.cpp walks the rows and calls through this table; transform_scalar.cpp fills it first, a faster
// level overwrites the entries it has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/cpu_level.h"
#include "transform/picture.h"
#include "transform/resample_taps.h"
#include "transform/yuv_matrix.h"

namespace vidload {

// Horizontal taps, with what a vector level derives from them once per set().
struct HorizontalTaps {
  ResampleTaps taps;
  std::vector<int32_t> block_taps;   // [blocks]: taps some output of the block really needs
  std::vector<int32_t> load_offset;  // see the level that fills it
  std::vector<uint8_t> shuffle;
};

// One output row: the planes' horizontally resampled rows under the taps of the vertical pass, and where the pixels go.
struct VerticalPass {
  int num_planes, width;
  int num_taps[3];
  const float* const* rows[3];  // rows[plane][tap]: kOutputPadding-padded float rows
  const float* weights[3];      // weights[plane][tap]
  const ColorCoefficients* color;
  const float *scale, *bias;    // [3]: step 4 of Note [The arithmetic]
  void* out;                    // element (channel 0, this row, column 0)
  ptrdiff_t channel_stride;     // planar only
};

struct RowKernels {
  // Derives the level's own tables after taps.taps changed.
  void (*prepare)(HorizontalTaps& taps, int bytes_per_sample);
  // row: contiguous samples, source_size of them. out: [taps.stride] floats. Reads nothing outside the row.
  void (*horizontal[2 /* bytes_per_sample - 1 */])(const uint8_t* row, int shift, const HorizontalTaps& taps, float* out);
  // Writes width pixels and nothing beside them.
  void (*vertical[4 /* DType */][2 /* planar, channels-last */])(const VerticalPass& pass);
};

void fill_row_kernels_scalar(RowKernels& kernels);
void fill_row_kernels_avx2(RowKernels& kernels);
void fill_row_kernels_avx512(RowKernels& kernels);

}  // namespace vidload
