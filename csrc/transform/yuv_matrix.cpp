#include "transform/yuv_matrix.h"

#include <string>

#include "base/error.h"

namespace vidload {

struct LumaWeights {
  double red, blue;  // Kr and Kb; Kg = 1 - Kr - Kb
};

static LumaWeights luma_weights(ColorMatrix matrix) {
  switch (matrix) {
    case ColorMatrix::bt601: return {0.299, 0.114};
    case ColorMatrix::bt709: return {0.2126, 0.0722};
    case ColorMatrix::bt2020: return {0.2627, 0.0593};
    case ColorMatrix::fcc: return {0.30, 0.11};
    case ColorMatrix::smpte240m: return {0.212, 0.087};
    case ColorMatrix::rgb: break;
  }
  throw Error("color_coefficients: matrix " + std::to_string(static_cast<int>(matrix)) + " has no luma weights");
}

ColorCoefficients color_coefficients(ColorMatrix matrix, ColorRange range, int bit_depth, int num_planes) {
  const double depth_scale = static_cast<double>(1 << (bit_depth - 8));
  const double max_value = static_cast<double>((1 << bit_depth) - 1);
  const bool is_full = range == ColorRange::full;
  const double black = is_full ? 0.0 : 16.0 * depth_scale;
  const double luma_gain = 255.0 / (is_full ? max_value : 219.0 * depth_scale);    // stored Y to 0-255
  const double chroma_gain = 255.0 / (is_full ? max_value : 224.0 * depth_scale);  // stored U, V to -127.5-127.5
  const double chroma_center = 128.0 * depth_scale;

  double weight[3][3] = {};
  double chroma_sum[3] = {};  // of each row's chroma weights: what the neutral chroma value contributes
  if (num_planes == 1) {
    for (auto& row : weight) row[0] = luma_gain;
  } else if (matrix == ColorMatrix::rgb) {
    weight[0][2] = weight[1][0] = weight[2][1] = luma_gain;
  } else {
    const LumaWeights k = luma_weights(matrix);
    const double green = 1.0 - k.red - k.blue;
    for (auto& row : weight) row[0] = luma_gain;
    weight[0][2] = 2.0 * (1.0 - k.red) * chroma_gain;
    weight[2][1] = 2.0 * (1.0 - k.blue) * chroma_gain;
    weight[1][1] = -weight[2][1] * k.blue / green;
    weight[1][2] = -weight[0][2] * k.red / green;
    for (int c = 0; c < 3; ++c) chroma_sum[c] = weight[c][1] + weight[c][2];
  }

  ColorCoefficients coefficients;
  for (int c = 0; c < 3; ++c) {
    for (int p = 0; p < 3; ++p) coefficients.weight[c][p] = static_cast<float>(weight[c][p]);
    coefficients.offset[c] = static_cast<float>(0.0 - black * luma_gain - chroma_center * chroma_sum[c]);
  }
  return coefficients;
}

// Note [YUV to RGB]
// Rec. ITU-T H.273, section 8.3: with R, G, B in 0-1,
//     Y = Kr R + Kg G + Kb B,   Pb = (B - Y) / (2 (1 - Kb)),   Pr = (R - Y) / (2 (1 - Kr)),   Kr + Kg + Kb = 1,
// stored with n bits as
//     limited:  y = 2^(n-8) (219 Y + 16)     cb = 2^(n-8) (224 Pb + 128)
//     full:     y = (2^n - 1) Y              cb = (2^n - 1) Pb + 2^(n-1)
// Solved for R, G, B:
//     R = Y + 2 (1 - Kr) Pr,   B = Y + 2 (1 - Kb) Pb,   G = Y - (Kb / Kg) 2 (1 - Kb) Pb - (Kr / Kg) 2 (1 - Kr) Pr.
// For BT.601 limited at 8 bits this is the well-known 1.164, 1.596, -0.392, -0.813, 2.017:
//     kr, kb = 0.299, 0.114; print(255/219, 2*(1-kr)*255/224, 2*(1-kb)*255/224)   # 1.16438 1.59603 2.01723
// The transfer function is left alone: models are trained on gamma-coded values, as every peer yields them.

}  // namespace vidload
