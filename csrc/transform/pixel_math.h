// pixel_math: the arithmetic of one pixel, shared by the scalar twin, the CUDA kernel and the kernel's host twin.
// Note [The arithmetic] at the end is the definition that every twin, vectorized or not, reproduces bit for bit.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "transform/transform_spec.h"
#include "transform/yuv_matrix.h"

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#define VIDLOAD_HD __host__ __device__ __forceinline__
#define VIDLOAD_NO_UNROLL _Pragma("unroll 1")
#else
// Always inlined: a vector level's copy, using that level's instructions, must never become the one the linker keeps for all.
#define VIDLOAD_HD inline __attribute__((always_inline))
#define VIDLOAD_NO_UNROLL
#endif

namespace vidload {

// One step of a weighted sum over taps; sums begin at 0.
VIDLOAD_HD float add_tap(float sum, float weight, float sample) { return fmaf(weight, sample, sum); }

// v > 0 ? v : 0 and not fmax: this is what x86's maxps computes, and it turns -0 into 0.
VIDLOAD_HD float clamp_to_255(float v) {
  v = v > 0.0f ? v : 0.0f;
  return v < 255.0f ? v : 255.0f;
}

// R (c 0), G (1) or B (2) from the resampled planes, on the 0-255 scale. Red never depends on the second plane, nor blue on the third.
VIDLOAD_HD float color_channel(const ColorCoefficients& color, int c, float y, float u, float v) {
  const float* w = color.weight[c];
  float value = color.offset[c];
  if (c != 2) value = fmaf(w[2], v, value);
  if (c != 0) value = fmaf(w[1], u, value);
  return clamp_to_255(fmaf(w[0], y, value));
}

VIDLOAD_HD uint32_t float_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

// IEEE binary16, round to nearest even; overflow becomes infinity.
VIDLOAD_HD uint16_t float_to_half_bits(float value) {
#if defined(__CUDA_ARCH__)
  return __half_as_ushort(__float2half_rn(value));
#else
  const uint32_t bits = float_bits(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65536 and more
  if (magnitude < 0x38800000u) {                                               // below 2^-14: a subnormal half
    // 0.5 has the spacing 2^-24 of subnormal halves above it, so this addition rounds to it.
    float aligned;
    memcpy(&aligned, &magnitude, sizeof aligned);
    return static_cast<uint16_t>(sign | (float_bits(aligned + 0.5f) - 0x3f000000u));
  }
  // Rebias the exponent from 127 to 15 and round half to even; a carry moves into the exponent as it should, up to infinity.
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u) - ((127u - 15u) << 23);
  return static_cast<uint16_t>(sign | (rounded >> 13));
#endif
}

// bfloat16, round to nearest even.
VIDLOAD_HD uint16_t float_to_bfloat16_bits(float value) {
  const uint32_t bits = float_bits(value);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// A clamped channel as it is stored: uint8 rounds to nearest even, the others are scaled first.
template <DType dtype>
struct Output;

template <>
struct Output<DType::uint8> {
  using Element = uint8_t;
  static VIDLOAD_HD Element from(float v, float /*scale*/, float /*bias*/) { return static_cast<uint8_t>(rintf(v)); }
};
template <>
struct Output<DType::float16> {
  using Element = uint16_t;
  static VIDLOAD_HD Element from(float v, float scale, float bias) { return float_to_half_bits(fmaf(v, scale, bias)); }
};
template <>
struct Output<DType::bfloat16> {
  using Element = uint16_t;
  static VIDLOAD_HD Element from(float v, float scale, float bias) { return float_to_bfloat16_bits(fmaf(v, scale, bias)); }
};
template <>
struct Output<DType::float32> {
  using Element = float;
  static VIDLOAD_HD Element from(float v, float scale, float bias) { return fmaf(v, scale, bias); }
};

// Note [The arithmetic]
// All in float32, every product fused with its addition, nothing else fused (-ffp-contract=off, nvcc -fmad=false), in this order:
//   1. For each plane and source row: sum over horizontal taps, ascending: sum = fma(weight, float(sample >> shift), sum), from 0.
//   2. For each plane: sum over vertical taps, ascending: sum = fma(weight, row, sum), from 0.
//   3. R = fma(w0, y, fma(w2, v, offset)), G = fma(w0, y, fma(w1, u, fma(w2, v, offset))), B = fma(w0, y, fma(w1, u, offset)), with the
//      channel's own weights; then clamp to [0, 255].
//   4. uint8: round to nearest even. Others: fma(value, 1 / std, -mean / std) (scale 1, bias 0 if not normalized), then round to
//      nearest even for float16 and bfloat16.
// No sum is ever -0 (weights of taps and samples are not negative, offsets not -0), so a term of weight 0 changes no bit: a twin may
// skip such taps or add more of them, and may give red its U and blue its V.

}  // namespace vidload
