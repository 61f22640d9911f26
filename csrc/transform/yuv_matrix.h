// yuv_matrix: the linear map from stored Y, U, V values (or G, B, R) to R, G, B on the 0-255 scale, for every twin.
#pragma once

#include "picture/picture.h"

namespace vidload {

// rgb[c] = weight[c][0] * plane0 + weight[c][1] * plane1 + weight[c][2] * plane2 + offset[c], clamped to [0, 255] afterwards.
// weight[0][1] and weight[2][2] are always 0 (red needs no U, blue no V), and every twin leaves these two out.
// Plain floats: the CUDA kernel reads it as it is.
struct ColorCoefficients {
  float weight[3][3];
  float offset[3];
};

// Coefficients for samples of bit_depth bits; see Note [YUV to RGB]. A picture of one plane is gray: R = G = B = scaled Y.
ColorCoefficients color_coefficients(ColorMatrix matrix, ColorRange range, int bit_depth, int num_planes);

}  // namespace vidload
