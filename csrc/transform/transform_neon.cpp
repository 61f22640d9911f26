// transform_neon: the row kernels for AArch64, sixteen outputs or pixels at a time in four vectors. As vector_kernels.h does for x86:
// samples reach their outputs by byte shuffles of 16-byte windows (Note [Windows] in tap_windows.cpp), and two rows share each table
// look-up.
#include <arm_neon.h>

#include <algorithm>
#include <cstring>

#include "transform/pixel_math.h"
#include "transform/row_kernels.h"

namespace vidload {
namespace {

constexpr int kVectors = 4, kLanes = 4, kStep = kVectors * kLanes;
static_assert(kStep == kBlockOutputs && kVectors == kBlockWindows && kOutputPadding % kStep == 0, "tables and rows come in whole steps");

struct Floats {
  float32x4_t v[kVectors];
};

Floats broadcast(float value) {
  const float32x4_t v = vdupq_n_f32(value);
  return {{v, v, v, v}};
}

Floats load(const float* from) { return {{vld1q_f32(from), vld1q_f32(from + 4), vld1q_f32(from + 8), vld1q_f32(from + 12)}}; }

void store(float* to, const Floats& floats) {
  for (int i = 0; i < kVectors; ++i) vst1q_f32(to + kLanes * i, floats.v[i]);
}

Floats multiply_add(float factor, const Floats& x, const Floats& sum) {
  const float32x4_t factors = vdupq_n_f32(factor);
  Floats result;
  for (int i = 0; i < kVectors; ++i) result.v[i] = vfmaq_f32(sum.v[i], factors, x.v[i]);
  return result;
}

Floats clamped_to_255(const Floats& floats) {
  Floats result;
  for (int i = 0; i < kVectors; ++i) result.v[i] = vminq_f32(vmaxq_f32(floats.v[i], vdupq_n_f32(0.0f)), vdupq_n_f32(255.0f));
  return result;
}

// ---- horizontal ----

template <typename Sample>
void horizontal_windows(const RowPair& rows, int shift, const HorizontalTaps& table) {
  const ptrdiff_t stride = table.taps.stride;
  const int taps = table.taps.num_taps, group = table.windows.tap_group;
  const int32x4_t down = vdupq_n_s32(-shift);
  const int32_t* offset = table.windows.offset.data();
  const uint8_t* shuffle = table.windows.shuffle.data();
  for (ptrdiff_t i = 0; i < stride; i += kStep) {
    const float* weights = table.taps.weight.data() + i;
    Floats sum[2] = {broadcast(0.0f), broadcast(0.0f)};
    for (int k = 0; k < taps;) {
      uint8x16_t window[2][kVectors];
      for (int r = 0; r < 2; ++r) {
        for (int four = 0; four < kVectors; ++four) window[r][four] = vld1q_u8(rows.source[r] + offset[four]);
      }
      offset += kBlockWindows;
      for (const int stop = std::min(k + group, taps); k < stop; ++k) {
        for (int four = 0; four < kVectors; ++four) {
          const uint8x16_t mask = vld1q_u8(shuffle + 16 * four);
          const float32x4_t weight = vld1q_f32(weights + kLanes * four);
          for (int r = 0; r < 2; ++r) {
            uint32x4_t samples = vreinterpretq_u32_u8(vqtbl1q_u8(window[r][four], mask));
            if (sizeof(Sample) == 2) samples = vshlq_u32(samples, down);
            sum[r].v[four] = vfmaq_f32(sum[r].v[four], weight, vcvtq_f32_u32(samples));
          }
        }
        weights += stride;
        shuffle += kShuffleBytes;
      }
    }
    for (int r = 0; r < 2; ++r) store(rows.out[r] + i, sum[r]);
  }
}

// For outputs that lie too far apart for windows.
template <typename Sample>
void horizontal_scattered(const uint8_t* row, int shift, const ResampleTaps& taps, float* out) {
  for (int i = 0; i < taps.stride; i += kLanes) {
    float32x4_t sum = vdupq_n_f32(0.0f);
    for (int k = 0; k < taps.num_taps; ++k) {
      uint32_t samples[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) {
        Sample sample;
        std::memcpy(&sample, row + (taps.start[i + lane] + k) * sizeof(Sample), sizeof(Sample));
        samples[lane] = uint32_t{sample} >> shift;
      }
      sum = vfmaq_f32(sum, vld1q_f32(taps.weight.data() + ptrdiff_t{k} * taps.stride + i), vcvtq_f32_u32(vld1q_u32(samples)));
    }
    vst1q_f32(out + i, sum);
  }
}

template <typename Sample>
void horizontal(const RowPair& given, int shift, const HorizontalTaps& table) {
  const size_t row_bytes = table.taps.source_size * sizeof(Sample);
  uint8_t short_rows[2][kWindowBytes] = {};  // rows too short for a window, brought to where a window may be loaded
  RowPair rows = given;
  for (int r = 0; r < 2 && row_bytes < kWindowBytes; ++r) {
    rows.source[r] = static_cast<const uint8_t*>(std::memcpy(short_rows[r], given.source[r], row_bytes));
  }
  if (table.windows.tap_group > 0) return horizontal_windows<Sample>(rows, shift, table);
  for (int r = 0; r < 2; ++r) horizontal_scattered<Sample>(rows.source[r], shift, table.taps, rows.out[r]);
}

// ---- vertical ----

Floats vertical_sum(const VerticalPass& pass, int plane, int column) {
  Floats sum = broadcast(0.0f);
  for (int k = 0; k < pass.num_taps[plane]; ++k) {
    sum = multiply_add(pass.weights[plane][k], load(pass.rows[plane][k] + column), sum);
  }
  return sum;
}

struct Words {
  uint16x8_t v[2];
};

uint8x16_t to_uint8(const Floats& floats) {
  uint16x4_t words[kVectors];
  for (int i = 0; i < kVectors; ++i) words[i] = vqmovun_s32(vcvtnq_s32_f32(floats.v[i]));
  return vcombine_u8(vqmovn_u16(vcombine_u16(words[0], words[1])), vqmovn_u16(vcombine_u16(words[2], words[3])));
}

Words to_float16(const Floats& floats) {
  uint16x4_t words[kVectors];
  for (int i = 0; i < kVectors; ++i) words[i] = vreinterpret_u16_f16(vcvt_f16_f32(floats.v[i]));
  return {{vcombine_u16(words[0], words[1]), vcombine_u16(words[2], words[3])}};
}

Words to_bfloat16(const Floats& floats) {
  uint16x4_t words[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    const uint32x4_t bits = vreinterpretq_u32_f32(floats.v[i]);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    words[i] = vshrn_n_u32(vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
  }
  return {{vcombine_u16(words[0], words[1]), vcombine_u16(words[2], words[3])}};
}

// Sixteen values of one channel as they are stored.
template <DType dtype>
auto packed(const Floats& v, float scale, float bias) {
  if constexpr (dtype == DType::uint8) return to_uint8(v);
  const Floats scaled = multiply_add(scale, v, broadcast(bias));
  if constexpr (dtype == DType::float16) return to_float16(scaled);
  if constexpr (dtype == DType::bfloat16) return to_bfloat16(scaled);
  if constexpr (dtype == DType::float32) return scaled;
}

void store(uint8_t* out, uint8x16_t values) { vst1q_u8(out, values); }
void store(uint16_t* out, const Words& words) {
  vst1q_u16(out, words.v[0]);
  vst1q_u16(out + 8, words.v[1]);
}

// Red, green and blue of sixteen pixels, pixel by pixel. Clang's intrinsics are macros, which the commas of a braced list would confuse.
void store_pixels(uint8_t* out, const uint8x16_t* channels) {
  const uint8x16x3_t pixels = {{channels[0], channels[1], channels[2]}};
  vst3q_u8(out, pixels);
}
void store_pixels(uint16_t* out, const Words* channels) {
  for (int i = 0; i < 2; ++i) {
    const uint16x8x3_t pixels = {{channels[0].v[i], channels[1].v[i], channels[2].v[i]}};
    vst3q_u16(out + 24 * i, pixels);
  }
}
void store_pixels(float* out, const Floats* channels) {
  for (int i = 0; i < kVectors; ++i) {
    const float32x4x3_t pixels = {{channels[0].v[i], channels[1].v[i], channels[2].v[i]}};
    vst3q_f32(out + 12 * i, pixels);
  }
}

template <DType dtype, bool channels_last>
void vertical(const VerticalPass& pass) {
  using Element = typename Output<dtype>::Element;
  const ColorCoefficients color = *pass.color;  // a copy, so that the compiler need not fear that the stores below change it
  Element* out = static_cast<Element*>(pass.out);
  for (int i = 0; i < pass.width; i += kStep) {
    const Floats y = vertical_sum(pass, 0, i);
    const bool has_chroma = pass.num_planes == 3;
    const Floats u = has_chroma ? vertical_sum(pass, 1, i) : broadcast(0.0f), v = has_chroma ? vertical_sum(pass, 2, i) : broadcast(0.0f);
    const auto channel = [&](int c) {
      Floats value = broadcast(color.offset[c]);
      if (c != 2) value = multiply_add(color.weight[c][2], v, value);
      if (c != 0) value = multiply_add(color.weight[c][1], u, value);
      value = multiply_add(color.weight[c][0], y, value);
      return packed<dtype>(clamped_to_255(value), pass.scale[c], pass.bias[c]);
    };
    const decltype(channel(0)) channels[3] = {channel(0), channel(1), channel(2)};
    const int rest = std::min(kStep, pass.width - i);  // the last step may have fewer pixels
    Element spare[3 * kStep];
    if constexpr (channels_last) {
      store_pixels(rest == kStep ? out + 3 * i : spare, channels);
      if (rest < kStep) std::memcpy(out + 3 * i, spare, 3 * rest * sizeof(Element));
    } else {
      for (int c = 0; c < 3; ++c) {
        Element* to = out + c * pass.channel_stride + i;
        store(rest == kStep ? to : spare, channels[c]);
        if (rest < kStep) std::memcpy(to, spare, rest * sizeof(Element));
      }
    }
  }
}

template <DType dtype>
void fill_vertical(RowKernels& kernels) {
  kernels.vertical[static_cast<int>(dtype)][0] = vertical<dtype, false>;
  kernels.vertical[static_cast<int>(dtype)][1] = vertical<dtype, true>;
}

}  // namespace

void fill_row_kernels_neon(RowKernels& kernels) {
  kernels.uses_windows = true;
  kernels.horizontal[0] = horizontal<uint8_t>;
  kernels.horizontal[1] = horizontal<uint16_t>;
  fill_vertical<DType::uint8>(kernels);
  fill_vertical<DType::float16>(kernels);
  fill_vertical<DType::bfloat16>(kernels);
  fill_vertical<DType::float32>(kernels);
}

}  // namespace vidload
