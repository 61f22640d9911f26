// transform_avx2: vector_kernels.h with 256-bit vectors, sixteen floats in two of them. Compiled with -mavx2 -mfma -mf16c and called
// only where the processor has these.
#include "transform/vector_kernels.h"

namespace vidload {
namespace {

struct Avx2 {
  struct Floats {
    __m256 low, high;
  };
  struct Window {
    __m256i low, high;
  };
  using Shuffle = Window;

  static Floats broadcast(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
  static Floats load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
  // Streaming stores were tried: loading 32x2x1 clips took 1.3 times as long.
  static void store(float* to, const Floats& v) {
    _mm256_storeu_ps(to, v.low);
    _mm256_storeu_ps(to + 8, v.high);
  }
  static void halves(const Floats& v, __m256& low, __m256& high) { low = v.low, high = v.high; }

  static Floats multiply_add(const Floats& factor, const Floats& x, const Floats& sum) {
    return {_mm256_fmadd_ps(factor.low, x.low, sum.low), _mm256_fmadd_ps(factor.high, x.high, sum.high)};
  }

  static Floats clamp_to_255(const Floats& v) { return {clamp_to_255(v.low), clamp_to_255(v.high)}; }

  static Window load_window(const uint8_t* row, const int32_t* offset) {
    const auto at = [&](int i) { return reinterpret_cast<const __m128i*>(row + offset[i]); };
    return {_mm256_loadu2_m128i(at(1), at(0)), _mm256_loadu2_m128i(at(3), at(2))};
  }

  static Shuffle load_shuffle(const uint8_t* shuffle) {
    const auto* from = reinterpret_cast<const __m256i*>(shuffle);
    return {_mm256_load_si256(from), _mm256_load_si256(from + 1)};
  }

  template <typename Sample>
  static Floats samples(const Window& window, const Shuffle& shuffle, __m128i shift_count) {
    return {samples<Sample>(window.low, shuffle.low, shift_count), samples<Sample>(window.high, shuffle.high, shift_count)};
  }

  static __m128i to_uint8(const Floats& v) {
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(v.low), _mm256_cvtps_epi32(v.high));  // 0-3 8-11 4-7 12-15
    const __m256i ordered = _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0));
    return _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
  }

  static __m256i to_float16(const Floats& v) {
    return _mm256_set_m128i(_mm256_cvtps_ph(v.high, _MM_FROUND_TO_NEAREST_INT), _mm256_cvtps_ph(v.low, _MM_FROUND_TO_NEAREST_INT));
  }

  static __m256i to_bfloat16(const Floats& v) {
    const __m256i words = _mm256_packus_epi32(to_bfloat16(v.low), to_bfloat16(v.high));
    return _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0));
  }

 private:
  static __m256 clamp_to_255(__m256 v) { return _mm256_min_ps(_mm256_max_ps(v, _mm256_setzero_ps()), _mm256_set1_ps(255.0f)); }

  template <typename Sample>
  static __m256 samples(__m256i window, __m256i shuffle, __m128i shift_count) {
    __m256i values = _mm256_shuffle_epi8(window, shuffle);
    if (sizeof(Sample) == 2) values = _mm256_srl_epi32(values, shift_count);
    return _mm256_cvtepi32_ps(values);
  }

  static __m256i to_bfloat16(__m256 v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    return _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  }
};

}  // namespace

void fill_row_kernels_avx2(RowKernels& kernels) { fill_row_kernels<Avx2>(kernels); }

}  // namespace vidload
