// transform_avx512: vector_kernels.h with 512-bit vectors. Same tables and windows as AVX2: half the instructions, and the constants of
// the vertical pass stay in registers. Compiled with -mavx512f/bw/vl/dq and called only where the processor has these.
#include "transform/vector_kernels.h"

namespace vidload {
namespace {

struct Avx512 {
  using Floats = __m512;
  using Window = __m512i;
  using Shuffle = __m512i;

  static Floats broadcast(float value) { return _mm512_set1_ps(value); }
  static Floats load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, Floats v) { _mm512_storeu_ps(to, v); }
  static void halves(Floats v, __m256& low, __m256& high) { low = _mm512_castps512_ps256(v), high = _mm512_extractf32x8_ps(v, 1); }

  static Floats multiply_add(Floats factor, Floats x, Floats sum) { return _mm512_fmadd_ps(factor, x, sum); }
  static Floats clamp_to_255(Floats v) { return _mm512_min_ps(_mm512_max_ps(v, _mm512_setzero_ps()), _mm512_set1_ps(255.0f)); }

  static Window load_window(const uint8_t* row, const int32_t* offset) {
    const auto at = [&](int i) { return reinterpret_cast<const __m128i*>(row + offset[i]); };
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu2_m128i(at(1), at(0))), _mm256_loadu2_m128i(at(3), at(2)), 1);
  }

  static Shuffle load_shuffle(const uint8_t* shuffle) { return _mm512_load_si512(shuffle); }

  template <typename Sample>
  static Floats samples(Window window, Shuffle shuffle, __m128i shift_count) {
    __m512i values = _mm512_shuffle_epi8(window, shuffle);
    if (sizeof(Sample) == 2) values = _mm512_srl_epi32(values, shift_count);
    return _mm512_cvtepi32_ps(values);
  }

  static __m128i to_uint8(Floats v) { return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)); }
  static __m256i to_float16(Floats v) { return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }

  // Not vcvtneps2bf16, which flushes subnormal numbers to zero.
  static __m256i to_bfloat16(Floats v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
  }
};

}  // namespace

void fill_row_kernels_avx512(RowKernels& kernels) { fill_row_kernels<Avx512>(kernels); }

}  // namespace vidload
