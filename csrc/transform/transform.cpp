#include "transform/transform.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "transform/aligned_vector.h"
#include "transform/resample_taps.h"
#include "transform/row_kernels.h"
#include "transform/yuv_matrix.h"

namespace vidload {

static RowKernels row_kernels(CpuLevel level) {
  RowKernels kernels{};
  fill_row_kernels_scalar(kernels);
#if defined(VIDLOAD_X86_KERNELS)
  if (level >= CpuLevel::avx2) fill_row_kernels_avx2(kernels);
  if (level >= CpuLevel::avx512) fill_row_kernels_avx512(kernels);
#else
  (void)level;
#endif
  return kernels;
}

static int element_size(DType dtype) {
  return dtype == DType::uint8 ? 1 : dtype == DType::float32 ? 4 : 2;
}

static std::string text(double number) { return std::to_string(number); }

namespace {

// Everything of a picture that tap tables and coefficients depend on.
struct Geometry {
  int width = 0, height = 0, num_planes = 0;
  int chroma_width = 0, chroma_height = 0;
  int bytes_per_sample = 0, bit_depth = 0, shift = 0;
  double chroma_scale_x = 0, chroma_scale_y = 0, chroma_offset_x = 0, chroma_offset_y = 0;
  ColorMatrix matrix = ColorMatrix::bt601;
  ColorRange range = ColorRange::limited;

  Geometry() = default;
  explicit Geometry(const PictureView& picture)
      : width(picture.width), height(picture.height), num_planes(picture.num_planes),
        bytes_per_sample(picture.bytes_per_sample), bit_depth(picture.bit_depth), shift(picture.shift),
        matrix(picture.matrix), range(picture.range) {
    if (num_planes < 3) return;  // gray: what is said of chroma means nothing
    chroma_width = picture.planes[1].width;
    chroma_height = picture.planes[1].height;
    chroma_scale_x = picture.chroma_scale_x;
    chroma_scale_y = picture.chroma_scale_y;
    chroma_offset_x = picture.chroma_offset_x;
    chroma_offset_y = picture.chroma_offset_y;
  }

  bool operator==(const Geometry& other) const {
    return width == other.width && height == other.height && num_planes == other.num_planes &&
           chroma_width == other.chroma_width && chroma_height == other.chroma_height &&
           bytes_per_sample == other.bytes_per_sample && bit_depth == other.bit_depth && shift == other.shift &&
           chroma_scale_x == other.chroma_scale_x && chroma_scale_y == other.chroma_scale_y &&
           chroma_offset_x == other.chroma_offset_x && chroma_offset_y == other.chroma_offset_y &&
           matrix == other.matrix && range == other.range;
  }
};

// The taps of one plane size, and which source columns they touch.
struct PlaneTaps {
  HorizontalTaps horizontal;
  ResampleTaps vertical;
  int first_column = 0, stop_column = 0;
};

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

}  // namespace

struct Resampler::State {
  TransformSpec spec;
  RowKernels kernels;
  float scale[3], bias[3];

  bool is_set = false;
  Geometry geometry;
  CropBox box{};
  ColorCoefficients color;
  PlaneTaps luma, chroma;

  RowRing rings[3];
  std::vector<const float*> tap_rows[3];
  std::vector<float> tap_weights[3];
  std::vector<uint8_t> contiguous_rows[2];

  const PlaneTaps& plane_taps(int p) const { return p == 0 ? luma : chroma; }
  const uint8_t* contiguous_row(const PictureView& picture, int p, int y, std::vector<uint8_t>& copy) const;
  void resample_pair(const PictureView& picture, int plane_a, int row_a, int plane_b, int row_b);
  void vertical_taps(int p, int y, VerticalPass& pass);
};

// ---- checks ----

static void check_spec(const TransformSpec& spec) {
  if (spec.height < 1 || spec.width < 1) {
    throw Error("TransformSpec: output size is " + std::to_string(spec.height) + " x " + std::to_string(spec.width) +
                "; height and width must be at least 1");
  }
  for (int c = 0; spec.normalize && c < 3; ++c) {
    if (!std::isfinite(spec.mean[c]) || !std::isfinite(spec.std[c]) || spec.std[c] <= 0) {
      throw Error("TransformSpec: mean " + text(spec.mean[c]) + " and std " + text(spec.std[c]) + " of channel " +
                  std::to_string(c) + "; mean must be finite and std positive");
    }
  }
}

static void check_geometry(const PictureView& picture) {
  if (picture.num_planes != 1 && picture.num_planes != 3) {
    throw Error("picture has " + std::to_string(picture.num_planes) + " planes; allowed are 1 (gray) and 3");
  }
  for (int p = 0; p < picture.num_planes; ++p) {
    if (picture.planes[p].width < 1 || picture.planes[p].height < 1) {
      throw Error("picture's plane " + std::to_string(p) + " is " + std::to_string(picture.planes[p].width) + " x " +
                  std::to_string(picture.planes[p].height) + " samples; it must hold at least one");
    }
  }
  if (picture.planes[0].width != picture.width || picture.planes[0].height != picture.height) {
    throw Error("picture is " + std::to_string(picture.width) + " x " + std::to_string(picture.height) + " but its first plane " +
                std::to_string(picture.planes[0].width) + " x " + std::to_string(picture.planes[0].height));
  }
  const int stored_bits = 8 * picture.bytes_per_sample;
  if ((stored_bits != 8 && stored_bits != 16) || picture.bit_depth < 8 || picture.shift < 0 ||
      picture.bit_depth + picture.shift > stored_bits) {
    throw Error("picture has bit_depth " + std::to_string(picture.bit_depth) + " and shift " + std::to_string(picture.shift) +
                " in samples of " + std::to_string(picture.bytes_per_sample) + " bytes; 1 or 2 bytes and at least 8 bits are allowed");
  }
  if (picture.num_planes == 1) return;
  if (picture.planes[1].width != picture.planes[2].width || picture.planes[1].height != picture.planes[2].height) {
    throw Error("picture's second and third plane differ in size");
  }
  if (!(picture.chroma_scale_x > 0) || !(picture.chroma_scale_y > 0) || !std::isfinite(picture.chroma_offset_x) ||
      !std::isfinite(picture.chroma_offset_y)) {
    throw Error("picture's chroma_scale must be positive and chroma_offset finite");
  }
}

static void check_box(const CropBox& box) {
  if (!std::isfinite(box.top) || !std::isfinite(box.left) || !(box.height > 0) || !(box.width > 0) ||
      !std::isfinite(box.height) || !std::isfinite(box.width)) {
    throw Error("crop box (top " + text(box.top) + ", left " + text(box.left) + ", height " + text(box.height) + ", width " +
                text(box.width) + ") must be finite, its height and width positive");
  }
}

// ---- set ----

Resampler::Resampler(const TransformSpec& spec, CpuLevel level) : state_(new State) {
  check_spec(spec);
  const auto& levels = supported_cpu_levels();
  if (std::find(levels.begin(), levels.end(), level) == levels.end()) {
    throw Error(std::string("Resampler: this processor cannot run level ") + cpu_level_name(level) + "; its highest is " +
                cpu_level_name(levels.back()));
  }
  state_->spec = spec;
  state_->kernels = row_kernels(level);
  for (int c = 0; c < 3; ++c) {
    state_->scale[c] = spec.normalize ? static_cast<float>(1.0 / spec.std[c]) : 1.0f;
    state_->bias[c] = spec.normalize ? static_cast<float>(-static_cast<double>(spec.mean[c]) / spec.std[c]) : 0.0f;
  }
}

Resampler::~Resampler() = default;
Resampler::Resampler(Resampler&&) noexcept = default;
Resampler& Resampler::operator=(Resampler&&) noexcept = default;

static ResampleAxis resample_axis(double box_start, double box_length, int num_outputs, double scale, double offset,
                                  int source_size, bool antialias, bool flip) {
  const double step = box_length / num_outputs;
  return {source_size, (box_start + 0.5 * step - offset) / scale + 0.5, step / scale, num_outputs, antialias, flip};
}

void Resampler::set(const PictureView& picture, const CropBox& box) {
  State& s = *state_;
  check_geometry(picture);
  check_box(box);
  const Geometry geometry(picture);
  const bool same_box = s.box.top == box.top && s.box.left == box.left && s.box.height == box.height &&
                        s.box.width == box.width && s.box.flip == box.flip;
  if (s.is_set && same_box && s.geometry == geometry) return;
  s.is_set = false;
  s.color = color_coefficients(geometry.matrix, geometry.range, geometry.bit_depth, geometry.num_planes);

  const TransformSpec& spec = s.spec;
  for (int p = 0; p < std::min(geometry.num_planes, 2); ++p) {
    const bool is_luma = p == 0;
    PlaneTaps& taps = is_luma ? s.luma : s.chroma;
    const double scale_x = is_luma ? 1.0 : geometry.chroma_scale_x, scale_y = is_luma ? 1.0 : geometry.chroma_scale_y;
    const double offset_x = is_luma ? 0.5 : geometry.chroma_offset_x, offset_y = is_luma ? 0.5 : geometry.chroma_offset_y;
    resample_taps(resample_axis(box.left, box.width, spec.width, scale_x, offset_x, picture.planes[p].width,
                                spec.antialias, box.flip), taps.horizontal.taps);
    resample_taps(resample_axis(box.top, box.height, spec.height, scale_y, offset_y, picture.planes[p].height,
                                spec.antialias, false), taps.vertical);
    if (s.kernels.uses_windows) tap_windows(taps.horizontal.taps, geometry.bytes_per_sample, taps.horizontal.windows);
    const auto& start = taps.horizontal.taps.start;
    taps.first_column = *std::min_element(start.begin(), start.end());
    taps.stop_column = *std::max_element(start.begin(), start.end()) + taps.horizontal.taps.num_taps;
  }
  s.geometry = geometry;
  s.box = box;
  s.is_set = true;
}

// ---- run ----

template <typename Sample>
static void copy_columns(const uint8_t* row, ptrdiff_t pixel_stride_bytes, int first, int stop, uint8_t* to) {
  for (int x = first; x < stop; ++x) std::memcpy(to + x * sizeof(Sample), row + x * pixel_stride_bytes, sizeof(Sample));
}

// Row y of plane p: where it lies if its samples are neighbors, else (NV12, rotated pictures) a copy of the columns wanted.
const uint8_t* Resampler::State::contiguous_row(const PictureView& picture, int p, int y, std::vector<uint8_t>& copy) const {
  const PlaneView& plane = picture.planes[p];
  const uint8_t* row = plane.data + y * plane.row_stride_bytes;
  const int bytes = geometry.bytes_per_sample;
  if (plane.pixel_stride_bytes == bytes) return row;
  const PlaneTaps& taps = plane_taps(p);
  copy.resize(static_cast<size_t>(plane.width) * bytes);
  (bytes == 1 ? copy_columns<uint8_t> : copy_columns<uint16_t>)(row, plane.pixel_stride_bytes, taps.first_column, taps.stop_column,
                                                                copy.data());
  return copy.data();
}

// Two rows of equal taps into their rings.
void Resampler::State::resample_pair(const PictureView& picture, int plane_a, int row_a, int plane_b, int row_b) {
  const RowPair rows{{contiguous_row(picture, plane_a, row_a, contiguous_rows[0]),
                      contiguous_row(picture, plane_b, row_b, contiguous_rows[1])},
                     {rings[plane_a].row(row_a), rings[plane_b].row(row_b)}};
  kernels.horizontal[geometry.bytes_per_sample - 1](rows, geometry.shift, plane_taps(plane_a).horizontal);
}

// The rows and weights that plane p gives to output row y, without the taps of weight 0.
void Resampler::State::vertical_taps(int p, int y, VerticalPass& pass) {
  const ResampleTaps& taps = plane_taps(p).vertical;
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
  if (!s.is_set || !(Geometry(picture) == s.geometry)) {
    throw Error("Resampler::run: the picture's size, format or color differs from what set() was given");
  }
  const bool channels_last = out.column_stride != 1;
  if (channels_last && (out.column_stride != 3 || out.channel_stride != 1)) {
    throw Error("Resampler::run: output strides (channel " + std::to_string(out.channel_stride) + ", column " +
                std::to_string(out.column_stride) + ") are neither planar (column 1) nor channels-last (channel 1, column 3)");
  }

  VerticalPass pass{};
  pass.num_planes = picture.num_planes;
  pass.width = s.spec.width;
  pass.color = &s.color;
  pass.scale = s.scale;
  pass.bias = s.bias;
  pass.channel_stride = out.channel_stride;
  for (int p = 0; p < picture.num_planes; ++p) {
    const PlaneTaps& taps = s.plane_taps(p);
    s.rings[p].reset(taps.vertical.num_taps + (p == 0), taps.horizontal.taps.stride);  // luma runs up to one row ahead
    s.tap_rows[p].resize(taps.vertical.num_taps);
    s.tap_weights[p].resize(taps.vertical.num_taps);
    pass.rows[p] = s.tap_rows[p].data();
    pass.weights[p] = s.tap_weights[p].data();
  }

  const ResampleTaps &luma = s.luma.vertical, &chroma = s.chroma.vertical;
  const auto vertical = s.kernels.vertical[static_cast<int>(s.spec.dtype)][channels_last];
  const int last_luma_row = luma.start[s.spec.height - 1] + luma.num_taps - 1;
  int next_luma = 0, next_chroma = 0;  // rows before these are in the rings, or were never wanted
  for (int y = 0; y < s.spec.height; ++y) {
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
    pass.out = static_cast<uint8_t*>(out.data) + y * out.row_stride * element_size(s.spec.dtype);
    vertical(pass);
  }
}

}  // namespace vidload
