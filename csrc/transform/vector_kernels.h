// vector_kernels: the row kernels written once over sixteen outputs at a time; a vector level (transform_avx2.cpp, transform_avx512.cpp)
// supplies the instructions. What changes against the scalar twin: samples reach their outputs by byte shuffles of 16-byte windows
// (Note [Windows] in tap_windows.cpp), two rows share each table look-up, and a row's pixels are finished sixteen together.
// Everything has internal linkage: each including file compiles its own copy with its own instruction set, and none may leak.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "transform/pixel_math.h"
#include "transform/row_kernels.h"

namespace vidload {
namespace {

constexpr int kStep = 16;  // outputs or pixels done together
static_assert(kStep == kBlockOutputs && kOutputPadding % kStep == 0, "tables and rows come in whole steps");

// A level L has the types Floats (sixteen of them), Window (16 bytes of the row for every four outputs) and Shuffle, and
//   Floats broadcast(float), load(const float*), multiply_add(factor, x, sum), clamp_to_255(Floats);
//   void store(float*, Floats), halves(Floats, __m256& low, __m256& high);
//   Window load_window(row, offsets); Shuffle load_shuffle(bytes); Floats samples<Sample>(Window, Shuffle, shift_count);
//   __m128i to_uint8(Floats); __m256i to_float16(Floats), to_bfloat16(Floats), rounding to nearest even.

// ---- horizontal ----

// A row too short for the widest load, brought to where such a load is allowed.
struct ShortRow {
  alignas(kWindowBytes) uint8_t bytes[kWindowBytes] = {};

  const uint8_t* widened(const uint8_t* row, size_t row_bytes) {
    return row_bytes < kWindowBytes ? static_cast<const uint8_t*>(std::memcpy(bytes, row, row_bytes)) : row;
  }
};

// num_taps > 0: all taps lie within one window and their number is known to the compiler, as nearly every picture has it.
// num_taps 0: any number, a new window for each group of taps.
template <class L, typename Sample, int num_taps>
void horizontal_windows(const RowPair& rows, int shift, const HorizontalTaps& table) {
  const ptrdiff_t stride = table.taps.stride;
  const int taps = num_taps > 0 ? num_taps : table.taps.num_taps;
  const int group = num_taps > 0 ? num_taps : table.windows.tap_group;
  const __m128i shift_count = _mm_cvtsi32_si128(shift);
  const int32_t* offset = table.windows.offset.data();
  const uint8_t* shuffle = table.windows.shuffle.data();
  for (ptrdiff_t i = 0; i < stride; i += kStep) {
    const float* weights = table.taps.weight.data() + i;
    typename L::Floats sum[2] = {L::broadcast(0.0f), L::broadcast(0.0f)};
    for (int k = 0; k < taps;) {
      const typename L::Window window[2] = {L::load_window(rows.source[0], offset), L::load_window(rows.source[1], offset)};
      offset += kBlockWindows;
      for (const int stop = std::min(k + group, taps); k < stop; ++k) {
        const typename L::Shuffle mask = L::load_shuffle(shuffle);
        const typename L::Floats weight = L::load(weights);
        for (int r = 0; r < 2; ++r) {
          sum[r] = L::multiply_add(weight, L::template samples<Sample>(window[r], mask, shift_count), sum[r]);
        }
        weights += stride;
        shuffle += kShuffleBytes;
      }
    }
    for (int r = 0; r < 2; ++r) L::store(rows.out[r] + i, sum[r]);
  }
}

// Four bytes of each output's run of taps at a time: two or four taps. Slower a tap than windows, for any spread.
template <typename Sample>
void horizontal_gather(const uint8_t* row, int shift, const ResampleTaps& taps, float* out) {
  constexpr int kTapsPerLoad = 4 / sizeof(Sample), kBits = 8 * sizeof(Sample), kLanes = 8;
  const __m256i last_load = _mm256_set1_epi32(std::max<int>(taps.source_size * sizeof(Sample), 4) - 4);
  const __m256i mask = _mm256_set1_epi32((1 << kBits) - 1);
  const __m128i shift_count = _mm_cvtsi32_si128(shift);
  for (int i = 0; i < taps.stride; i += kLanes) {
    const float* weights = taps.weight.data() + i;
    __m256i position = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(taps.start.data() + i));
    if (sizeof(Sample) == 2) position = _mm256_slli_epi32(position, 1);
    __m256 sum = _mm256_setzero_ps();
    for (int k = 0; k < taps.num_taps; position = _mm256_add_epi32(position, _mm256_set1_epi32(4))) {
      // A load that would leave the row starts earlier; the shift then brings the wanted bytes down.
      const __m256i load = _mm256_min_epi32(position, last_load);
      __m256i loaded = _mm256_i32gather_epi32(reinterpret_cast<const int*>(row), load, 1);
      loaded = _mm256_srlv_epi32(loaded, _mm256_slli_epi32(_mm256_sub_epi32(position, load), 3));
      for (const int stop = std::min(k + kTapsPerLoad, taps.num_taps); k < stop; ++k) {
        const __m256i samples = _mm256_srl_epi32(_mm256_and_si256(loaded, mask), shift_count);
        sum = _mm256_fmadd_ps(_mm256_loadu_ps(weights), _mm256_cvtepi32_ps(samples), sum);
        loaded = _mm256_srli_epi32(loaded, kBits);
        weights += taps.stride;
      }
    }
    _mm256_storeu_ps(out + i, sum);
  }
}

template <class L, typename Sample>
void horizontal(const RowPair& given, int shift, const HorizontalTaps& table) {
  ShortRow short_rows[2];
  RowPair rows = given;
  for (int r = 0; r < 2; ++r) rows.source[r] = short_rows[r].widened(rows.source[r], table.taps.source_size * sizeof(Sample));
  if (table.windows.tap_group == 0) {
    for (int r = 0; r < 2; ++r) horizontal_gather<Sample>(rows.source[r], shift, table.taps, rows.out[r]);
    return;
  }
  const bool one_window = table.windows.tap_group == table.taps.num_taps;
  switch (one_window ? table.taps.num_taps : 0) {
    case 1: return horizontal_windows<L, Sample, 1>(rows, shift, table);
    case 2: return horizontal_windows<L, Sample, 2>(rows, shift, table);
    case 3: return horizontal_windows<L, Sample, 3>(rows, shift, table);
    case 4: return horizontal_windows<L, Sample, 4>(rows, shift, table);
    default: return horizontal_windows<L, Sample, 0>(rows, shift, table);
  }
}

// ---- vertical ----

template <class L>
typename L::Floats vertical_sum(const VerticalPass& pass, int plane, int column) {
  typename L::Floats sum = L::broadcast(0.0f);
  for (int k = 0; k < pass.num_taps[plane]; ++k) {
    sum = L::multiply_add(L::broadcast(pass.weights[plane][k]), L::load(pass.rows[plane][k] + column), sum);
  }
  return sum;
}

// Sixteen values of one channel as they are stored.
template <class L, DType dtype>
auto packed(typename L::Floats v, float scale, float bias) {
  if constexpr (dtype == DType::uint8) return L::to_uint8(v);
  const typename L::Floats scaled = L::multiply_add(L::broadcast(scale), v, L::broadcast(bias));
  if constexpr (dtype == DType::float16) return L::to_float16(scaled);
  if constexpr (dtype == DType::bfloat16) return L::to_bfloat16(scaled);
  if constexpr (dtype == DType::float32) return scaled;
}

void store_row(uint8_t* out, __m128i v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(out), v); }
void store_row(uint16_t* out, __m256i v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), v); }

// Interleaving n values of three channels to r0 g0 b0 r1 ...: the results have n elements each, element e of result m holds
// channel (n m + e) % 3. As 3 does not divide n, each channel needs its values at different e in each result: one
// permutation a channel serves all three, and two blends make a result.
constexpr int interleaved_channel(int n, int result, int element) { return (n * result + element) % 3; }
constexpr int interleaved_source(int n, int channel, int element) {
  for (int result = 0; result < 3; ++result) {
    if (interleaved_channel(n, result, element) == channel) return (n * result + element) / 3;
  }
  return 0;
}
constexpr int blend_mask(int n, int result, int channel) {
  int mask = 0;
  for (int e = 0; e < n; ++e) mask |= (interleaved_channel(n, result, e) == channel) << e;
  return mask;
}

struct InterleaveTables {
  alignas(32) int8_t bytes[3][16], words[3][32];  // [channel]: shuffles of 16 bytes, of 8 words in each half
  alignas(32) int32_t floats[3][8];
  alignas(16) int8_t is_channel[3][3][16];  // [result][channel]: bytes to take
};

constexpr InterleaveTables interleave_tables() {
  InterleaveTables t{};
  for (int c = 0; c < 3; ++c) {
    for (int e = 0; e < 16; ++e) {
      t.bytes[c][e] = static_cast<int8_t>(interleaved_source(16, c, e));
      for (int result = 0; result < 3; ++result) t.is_channel[result][c][e] = interleaved_channel(16, result, e) == c ? -1 : 0;
    }
    for (int e = 0; e < 8; ++e) {
      t.floats[c][e] = interleaved_source(8, c, e);
      for (int byte = 0; byte < 2; ++byte) {
        const int8_t from = static_cast<int8_t>(2 * interleaved_source(8, c, e) + byte);
        t.words[c][2 * e + byte] = t.words[c][16 + 2 * e + byte] = from;
      }
    }
  }
  return t;
}
constexpr InterleaveTables kInterleave = interleave_tables();

__m128i load128(const int8_t* bytes) { return _mm_load_si128(reinterpret_cast<const __m128i*>(bytes)); }

void store_pixels(uint8_t* out, const __m128i* channels) {
  __m128i shuffled[3];
  for (int c = 0; c < 3; ++c) shuffled[c] = _mm_shuffle_epi8(channels[c], load128(kInterleave.bytes[c]));
  for (int m = 0; m < 3; ++m) {
    const __m128i two = _mm_blendv_epi8(shuffled[0], shuffled[1], load128(kInterleave.is_channel[m][1]));
    store_row(out + 16 * m, _mm_blendv_epi8(two, shuffled[2], load128(kInterleave.is_channel[m][2])));
  }
}

template <int result>
__m256i interleaved_words(const __m256i* shuffled) {
  const __m256i two = _mm256_blend_epi16(shuffled[0], shuffled[1], blend_mask(8, result, 1));
  return _mm256_blend_epi16(two, shuffled[2], blend_mask(8, result, 2));
}

void store_pixels(uint16_t* out, const __m256i* channels) {
  __m256i shuffled[3];
  for (int c = 0; c < 3; ++c) {
    shuffled[c] = _mm256_shuffle_epi8(channels[c], _mm256_load_si256(reinterpret_cast<const __m256i*>(kInterleave.words[c])));
  }
  const __m256i results[3] = {interleaved_words<0>(shuffled), interleaved_words<1>(shuffled), interleaved_words<2>(shuffled)};
  for (int m = 0; m < 3; ++m) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 8 * m), _mm256_castsi256_si128(results[m]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 24 + 8 * m), _mm256_extracti128_si256(results[m], 1));
  }
}

template <int result>
void store_interleaved_floats(float* out, const __m256* permuted) {
  const __m256 two = _mm256_blend_ps(permuted[0], permuted[1], blend_mask(8, result, 1));
  _mm256_storeu_ps(out + 8 * result, _mm256_blend_ps(two, permuted[2], blend_mask(8, result, 2)));
}

void store_pixels(float* out, __m256 red, __m256 green, __m256 blue) {
  const __m256 channels[3] = {red, green, blue};
  __m256 permuted[3];
  for (int c = 0; c < 3; ++c) {
    permuted[c] = _mm256_permutevar8x32_ps(channels[c], _mm256_load_si256(reinterpret_cast<const __m256i*>(kInterleave.floats[c])));
  }
  store_interleaved_floats<0>(out, permuted);
  store_interleaved_floats<1>(out, permuted);
  store_interleaved_floats<2>(out, permuted);
}

template <class L, DType dtype, bool channels_last>
void vertical(const VerticalPass& pass) {
  using Element = typename Output<dtype>::Element;
  // Copies, so that the compiler need not fear that the stores below change them.
  const ColorCoefficients color = *pass.color;
  const float scale[3] = {pass.scale[0], pass.scale[1], pass.scale[2]}, bias[3] = {pass.bias[0], pass.bias[1], pass.bias[2]};
  const ptrdiff_t channel_stride = pass.channel_stride;
  const int width = pass.width;
  Element* out = static_cast<Element*>(pass.out);
  for (int i = 0; i < width; i += kStep) {
    typename L::Floats y = vertical_sum<L>(pass, 0, i), u = L::broadcast(0.0f), v = u;
    if (pass.num_planes == 3) {
      u = vertical_sum<L>(pass, 1, i);
      v = vertical_sum<L>(pass, 2, i);
    }
    const auto channel = [&](int c) {
      typename L::Floats value = L::broadcast(color.offset[c]);
      if (c != 2) value = L::multiply_add(L::broadcast(color.weight[c][2]), v, value);
      if (c != 0) value = L::multiply_add(L::broadcast(color.weight[c][1]), u, value);
      value = L::multiply_add(L::broadcast(color.weight[c][0]), y, value);
      return packed<L, dtype>(L::clamp_to_255(value), scale[c], bias[c]);
    };
    const auto red = channel(0), green = channel(1), blue = channel(2);
    const int rest = std::min(kStep, width - i);  // the last step may have fewer pixels
    Element spare[3 * kStep];
    if constexpr (channels_last) {
      Element* to = rest == kStep ? out + 3 * i : spare;
      if constexpr (dtype == DType::float32) {
        __m256 low[3], high[3];
        L::halves(red, low[0], high[0]);
        L::halves(green, low[1], high[1]);
        L::halves(blue, low[2], high[2]);
        store_pixels(to, low[0], low[1], low[2]);
        store_pixels(to + 3 * 8, high[0], high[1], high[2]);
      } else {
        const decltype(packed<L, dtype>(y, 0, 0)) channels[3] = {red, green, blue};
        store_pixels(to, channels);
      }
      if (rest < kStep) std::memcpy(out + 3 * i, spare, 3 * rest * sizeof(Element));
    } else {
      const auto store = [&](int c, const auto& values) {
        Element* to = rest == kStep ? out + c * channel_stride + i : spare;
        if constexpr (dtype == DType::float32) {
          L::store(to, values);
        } else {
          store_row(to, values);
        }
        if (rest < kStep) std::memcpy(out + c * channel_stride + i, spare, rest * sizeof(Element));
      };
      store(0, red);
      store(1, green);
      store(2, blue);
    }
  }
}

template <class L, DType dtype>
void fill_vertical(RowKernels& kernels) {
  kernels.vertical[static_cast<int>(dtype)][0] = vertical<L, dtype, false>;
  kernels.vertical[static_cast<int>(dtype)][1] = vertical<L, dtype, true>;
}

template <class L>
void fill_row_kernels(RowKernels& kernels) {
  kernels.uses_windows = true;
  kernels.horizontal[0] = horizontal<L, uint8_t>;
  kernels.horizontal[1] = horizontal<L, uint16_t>;
  fill_vertical<L, DType::uint8>(kernels);
  fill_vertical<L, DType::float16>(kernels);
  fill_vertical<L, DType::bfloat16>(kernels);
  fill_vertical<L, DType::float32>(kernels);
}

}  // namespace
}  // namespace vidload
