// transform_scalar: the definition of the row kernels: plain loops over pixel_math.h. Every other level gives these very bits.
// Also the portable path: processors without a level of their own run this file as their compiler vectorizes it.
#include "transform/pixel_math.h"
#include "transform/row_kernels.h"

namespace vidload {

template <typename Sample>
static void horizontal_row(const uint8_t* row, int shift, const ResampleTaps& taps, float* out) {
  for (int i = 0; i < taps.num_outputs; ++i) {
    float sum = 0.0f;
    for (int k = 0; k < taps.num_taps; ++k) {
      Sample sample;  // memcpy: a row of 16-bit samples need not be aligned
      std::memcpy(&sample, row + (taps.start[i] + k) * sizeof(Sample), sizeof(Sample));
      sum = add_tap(sum, taps.weight[k * taps.stride + i], static_cast<float>(sample >> shift));
    }
    out[i] = sum;
  }
}

template <typename Sample>
static void horizontal(const RowPair& rows, int shift, const HorizontalTaps& table) {
  horizontal_row<Sample>(rows.source[0], shift, table.taps, rows.out[0]);
  if (rows.out[1] != rows.out[0]) horizontal_row<Sample>(rows.source[1], shift, table.taps, rows.out[1]);
}

template <DType dtype, bool channels_last>
static void vertical(const VerticalPass& pass) {
  using Element = typename Output<dtype>::Element;
  const ptrdiff_t channel_stride = channels_last ? 1 : pass.channel_stride;
  const ptrdiff_t column_stride = channels_last ? 3 : 1;
  Element* out = static_cast<Element*>(pass.out);
  for (int i = 0; i < pass.width; ++i) {
    float plane[3] = {};
    for (int p = 0; p < pass.num_planes; ++p) {
      for (int k = 0; k < pass.num_taps[p]; ++k) plane[p] = add_tap(plane[p], pass.weights[p][k], pass.rows[p][k][i]);
    }
    for (int c = 0; c < 3; ++c) {
      const float value = color_channel(*pass.color, c, plane[0], plane[1], plane[2]);
      out[i * column_stride + c * channel_stride] = Output<dtype>::from(value, pass.scale[c], pass.bias[c]);
    }
  }
}

template <DType dtype>
static void fill_vertical(RowKernels& kernels) {
  kernels.vertical[static_cast<int>(dtype)][0] = vertical<dtype, false>;
  kernels.vertical[static_cast<int>(dtype)][1] = vertical<dtype, true>;
}

void fill_row_kernels_scalar(RowKernels& kernels) {
  kernels.uses_windows = false;
  kernels.horizontal[0] = horizontal<uint8_t>;
  kernels.horizontal[1] = horizontal<uint16_t>;
  fill_vertical<DType::uint8>(kernels);
  fill_vertical<DType::float16>(kernels);
  fill_vertical<DType::bfloat16>(kernels);
  fill_vertical<DType::float32>(kernels);
}

}  // namespace vidload
