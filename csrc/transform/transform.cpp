#include "transform/transform.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "transform/row_kernels.h"
#include "transform/transform_plan.h"

namespace vidload {

static RowKernels row_kernels(CpuLevel level) {
  RowKernels kernels{};
  fill_row_kernels_scalar(kernels);
#if defined(VIDLOAD_X86_KERNELS)
  if (level >= CpuLevel::avx2) fill_row_kernels_avx2(kernels);
  if (level >= CpuLevel::avx512) fill_row_kernels_avx512(kernels);
#elif defined(VIDLOAD_NEON_KERNELS)
  if (level == CpuLevel::neon) fill_row_kernels_neon(kernels);
#else
  (void)level;
#endif
  return kernels;
}

namespace {

// The last few horizontally resampled rows of one plane; source row y lives in slot y % num_slots.
struct RowRing {
  AlignedVector<float> floats;
  int num_slots = 0, stride = 0;

  void reset(int slots, int row_stride) {
    num_slots = slots;
    stride = row_stride;
    floats.resize(static_cast<size_t>(slots) * row_stride);
  }
  float* row(int y) { return floats.data() + static_cast<size_t>(y % num_slots) * stride; }
};

// Which source columns a plane's taps touch.
struct Columns {
  int first = 0, stop = 0;
};

}  // namespace

struct Resampler::State {
  TransformPlan plan;
  RowKernels kernels;
  TapWindows windows[2 /* luma, chroma */];
  Columns columns[2];

  RowRing rings[3];
  std::vector<const float*> tap_rows[3];
  std::vector<float> tap_weights[3];
  std::vector<uint8_t> contiguous_rows[2];

  State(const TransformSpec& spec, CpuLevel level) : plan(spec), kernels(row_kernels(level)) {}
  const uint8_t* contiguous_row(const PictureView& picture, int p, int y, std::vector<uint8_t>& copy) const;
  void resample_pair(const PictureView& picture, int plane_a, int row_a, int plane_b, int row_b);
  void vertical_taps(int p, int y, VerticalPass& pass);
};

Resampler::Resampler(const TransformSpec& spec, CpuLevel level) : state_(new State(spec, level)) {
  const auto& levels = supported_cpu_levels();
  if (std::find(levels.begin(), levels.end(), level) == levels.end()) {
    throw Error(std::string("Resampler: this processor cannot run level ") + cpu_level_name(level) + "; its highest is " +
                cpu_level_name(levels.back()));
  }
}

Resampler::~Resampler() = default;
Resampler::Resampler(Resampler&&) noexcept = default;
Resampler& Resampler::operator=(Resampler&&) noexcept = default;

void Resampler::set(const PictureView& geometry, const CropBox& box) {
  State& s = *state_;
  if (!s.plan.set(geometry, box)) return;
  for (int p = 0; p < std::min(s.plan.num_planes(), 2); ++p) {
    const ResampleTaps& taps = s.plan.taps(p).horizontal;
    if (s.kernels.uses_windows) tap_windows(taps, s.plan.bytes_per_sample(), s.windows[p]);
    s.columns[p].first = *std::min_element(taps.start.begin(), taps.start.end());
    s.columns[p].stop = *std::max_element(taps.start.begin(), taps.start.end()) + taps.num_taps;
  }
}

template <typename Sample>
static void copy_columns(const uint8_t* row, ptrdiff_t pixel_stride_bytes, Columns columns, uint8_t* to) {
  for (int x = columns.first; x < columns.stop; ++x) std::memcpy(to + x * sizeof(Sample), row + x * pixel_stride_bytes, sizeof(Sample));
}

// Row y of plane p: where it lies if its samples are neighbors, else (NV12, rotated pictures) a copy of the columns wanted.
const uint8_t* Resampler::State::contiguous_row(const PictureView& picture, int p, int y, std::vector<uint8_t>& copy) const {
  const PlaneView& plane = picture.planes[p];
  const uint8_t* row = plane.data + y * plane.row_stride_bytes;
  const int bytes = plan.bytes_per_sample();
  if (plane.pixel_stride_bytes == bytes) return row;
  copy.resize(static_cast<size_t>(plane.width) * bytes);
  (bytes == 1 ? copy_columns<uint8_t> : copy_columns<uint16_t>)(row, plane.pixel_stride_bytes, columns[p > 0], copy.data());
  return copy.data();
}

// Two rows of equal taps into their rings.
void Resampler::State::resample_pair(const PictureView& picture, int plane_a, int row_a, int plane_b, int row_b) {
  const RowPair rows{
      {contiguous_row(picture, plane_a, row_a, contiguous_rows[0]), contiguous_row(picture, plane_b, row_b, contiguous_rows[1])},
      {rings[plane_a].row(row_a), rings[plane_b].row(row_b)}};
  kernels.horizontal[plan.bytes_per_sample() - 1](rows, plan.shift(), {plan.taps(plane_a).horizontal, windows[plane_a > 0]});
}

// The rows and weights that plane p gives to output row y, without the taps of weight 0.
void Resampler::State::vertical_taps(int p, int y, VerticalPass& pass) {
  const ResampleTaps& taps = plan.taps(p).vertical;
  int used = 0;
  for (int k = 0; k < taps.num_taps; ++k) {
    const float weight = taps.weight[static_cast<size_t>(k) * taps.stride + y];
    if (weight == 0.0f) continue;
    tap_rows[p][used] = rings[p].row(taps.start[y] + k);
    tap_weights[p][used++] = weight;
  }
  pass.num_taps[p] = used;
}

void Resampler::run(const PictureView& picture, const OutputView& out) {
  State& s = *state_;
  s.plan.check(picture, out);
  const TransformSpec& spec = s.plan.spec();
  const bool channels_last = out.column_stride != 1;

  VerticalPass pass{};
  pass.num_planes = picture.num_planes;
  pass.width = spec.width;
  pass.color = &s.plan.color();
  pass.scale = s.plan.scale();
  pass.bias = s.plan.bias();
  pass.channel_stride = out.channel_stride;
  for (int p = 0; p < picture.num_planes; ++p) {
    const PlaneTaps& taps = s.plan.taps(p);
    s.rings[p].reset(taps.vertical.num_taps + (p == 0), taps.horizontal.stride);  // luma runs up to one row ahead
    s.tap_rows[p].resize(taps.vertical.num_taps);
    s.tap_weights[p].resize(taps.vertical.num_taps);
    pass.rows[p] = s.tap_rows[p].data();
    pass.weights[p] = s.tap_weights[p].data();
  }

  const ResampleTaps &luma = s.plan.taps(0).vertical, &chroma = s.plan.taps(1).vertical;
  const auto vertical = s.kernels.vertical[static_cast<int>(spec.dtype)][channels_last];
  const int last_luma_row = luma.start[spec.height - 1] + luma.num_taps - 1;
  int next_luma = 0, next_chroma = 0;  // rows before these are in the rings, or were never wanted
  for (int y = 0; y < spec.height; ++y) {
    for (next_luma = std::max(next_luma, luma.start[y]); next_luma < luma.start[y] + luma.num_taps; next_luma += 2) {
      s.resample_pair(picture, 0, next_luma, 0, std::min(next_luma + 1, last_luma_row));
    }
    s.vertical_taps(0, y, pass);
    if (picture.num_planes == 3) {
      for (next_chroma = std::max(next_chroma, chroma.start[y]); next_chroma < chroma.start[y] + chroma.num_taps; ++next_chroma) {
        s.resample_pair(picture, 1, next_chroma, 2, next_chroma);
      }
      s.vertical_taps(1, y, pass);
      s.vertical_taps(2, y, pass);
    }
    pass.out = static_cast<uint8_t*>(out.data) + y * out.row_stride * element_size(spec.dtype);
    vertical(pass);
  }
}

}  // namespace vidload
