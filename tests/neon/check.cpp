// check: every row kernel of the NEON level against the scalar definition, bit for bit, on random rows; run by tests/test_neon.py.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "transform/row_kernels.h"

using namespace vidload;

namespace {

std::mt19937 random_numbers(0);

int uniform(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_numbers); }
float real(float low, float high) { return std::uniform_real_distribution<float>(low, high)(random_numbers); }

[[noreturn]] void fail(const char* what, int number) {
  std::printf("%s of case %d differs\n", what, number);
  std::exit(1);
}

// Random bytes that end where the program may not read on.
class GuardedRow {
 public:
  explicit GuardedRow(size_t size) : page_(size_t(sysconf(_SC_PAGESIZE))) {
    num_mapped_ = (size + 2 * page_ - 1) / page_ * page_;
    mapped_ = static_cast<uint8_t*>(mmap(nullptr, num_mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (mapped_ == MAP_FAILED || mprotect(mapped_ + num_mapped_ - page_, page_, PROT_NONE) != 0) std::abort();
    data_ = mapped_ + num_mapped_ - page_ - size;
    for (size_t i = 0; i < size; ++i) data_[i] = uint8_t(uniform(0, 255));
  }
  ~GuardedRow() { munmap(mapped_, num_mapped_); }
  GuardedRow(const GuardedRow&) = delete;
  GuardedRow& operator=(const GuardedRow&) = delete;
  const uint8_t* data() const { return data_; }

 private:
  const size_t page_;
  size_t num_mapped_;
  uint8_t *mapped_, *data_;
};

int num_with_windows = 0, num_scattered = 0;

void check_horizontal(const RowKernels& scalar, const RowKernels& neon, int number) {
  const int bytes_per_sample = uniform(1, 2), source_size = uniform(0, 9) ? uniform(1, 700) : uniform(1, 16), num_outputs = uniform(1, 300);
  const int shift = bytes_per_sample == 2 ? uniform(0, 6) : 0;
  const double width = real(0.3f, 1.0f) * float(source_size), step = width / num_outputs;
  const ResampleAxis axis = {source_size,       real(0, 1) * (source_size - width) + step / 2, step, num_outputs, uniform(0, 1) == 1,
                             uniform(0, 1) == 1};
  ResampleTaps taps;
  resample_taps(axis, taps);
  TapWindows windows;
  tap_windows(taps, bytes_per_sample, windows);
  (windows.tap_group > 0 ? num_with_windows : num_scattered)++;
  const size_t row_bytes = size_t(source_size) * bytes_per_sample;
  const GuardedRow first(row_bytes), second(row_bytes);
  const GuardedRow* const rows[2] = {&first, &second};
  std::vector<float> expected[2], got[2];
  for (int r = 0; r < 2; ++r) expected[r].assign(taps.stride, 0), got[r].assign(taps.stride, 0);
  const HorizontalTaps table = {taps, windows};
  scalar.horizontal[bytes_per_sample - 1]({{rows[0]->data(), rows[1]->data()}, {expected[0].data(), expected[1].data()}}, shift, table);
  neon.horizontal[bytes_per_sample - 1]({{rows[0]->data(), rows[1]->data()}, {got[0].data(), got[1].data()}}, shift, table);
  for (int r = 0; r < 2; ++r) {
    if (std::memcmp(expected[r].data(), got[r].data(), num_outputs * sizeof(float)) != 0) fail("a horizontal row", number);
  }
}

void check_vertical(const RowKernels& scalar, const RowKernels& neon, int number) {
  constexpr int kMostTaps = 6;
  constexpr size_t kBytesOf[] = {1, 2, 2, 4};  // in the order of DType
  static_assert(int(DType::uint8) == 0 && int(DType::float32) == 3);
  const int width = uniform(1, 70), padded = (width + kOutputPadding - 1) / kOutputPadding * kOutputPadding;
  VerticalPass pass = {};
  pass.num_planes = uniform(0, 3) ? 3 : 1;
  pass.width = width;
  std::vector<float> values(size_t(3 * kMostTaps * padded)), weights(size_t(3 * kMostTaps));
  const bool is_plain = uniform(0, 3) == 0;  // what comes in goes out: many values lie in the middle between two that can be stored
  for (float& value : values) value = is_plain ? float(uniform(0, 255 * 1024)) / 1024 : real(0, 300);
  const float* rows[3][kMostTaps];
  for (int p = 0; p < 3; ++p) {
    pass.num_taps[p] = is_plain ? 1 : uniform(1, kMostTaps);
    for (int k = 0; k < kMostTaps; ++k) {
      rows[p][k] = values.data() + (p * kMostTaps + k) * padded;
      weights[size_t(p * kMostTaps + k)] = is_plain ? 1 : real(0, 1);
    }
    pass.rows[p] = rows[p];
    pass.weights[p] = weights.data() + p * kMostTaps;
  }
  ColorCoefficients color = {};
  for (int c = 0; c < 3; ++c) {
    for (int p = 0; p < 3; ++p) color.weight[c][p] = is_plain ? float(p == 0) : real(-1, 2);
    color.offset[c] = is_plain ? 0 : real(-200, 200);
  }
  const float scale[3] = {real(0, 0.1f), 1, real(0, 4000)}, bias[3] = {real(-3, 3), 0, 1e-7f};
  pass.color = &color;
  pass.scale = scale, pass.bias = bias;
  for (int dtype = 0; dtype < kNumDTypes; ++dtype) {
    for (int is_last = 0; is_last < 2; ++is_last) {
      const size_t num_bytes = kBytesOf[dtype] * size_t(3 * (width + 5));
      std::vector<uint8_t> expected(num_bytes, 0xA5), got(num_bytes, 0xA5);
      pass.channel_stride = width + 5;
      pass.out = expected.data();
      scalar.vertical[dtype][is_last](pass);
      pass.out = got.data();
      neon.vertical[dtype][is_last](pass);
      if (expected != got) fail("a vertical row", number);  // the bytes beside the pixels too
    }
  }
}

}  // namespace

int main() {
  RowKernels scalar = {}, neon = {};
  fill_row_kernels_scalar(scalar);
  fill_row_kernels_neon(neon);
  for (int number = 0; number < 3000; ++number) check_horizontal(scalar, neon, number);
  for (int number = 0; number < 3000; ++number) check_vertical(scalar, neon, number);
  if (num_with_windows < 100 || num_scattered < 100) fail("the choice", 0);
  std::printf("fine\n");
  return 0;
}
