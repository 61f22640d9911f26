#include "transform/transform_plan.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"

namespace vidload {

int element_size(DType dtype) { return dtype == DType::uint8 ? 1 : dtype == DType::float32 ? 4 : 2; }

static std::string text(double number) { return std::to_string(number); }

Geometry::Geometry(const PictureView& picture)
    : width(picture.width),
      height(picture.height),
      num_planes(picture.num_planes),
      bytes_per_sample(picture.bytes_per_sample),
      bit_depth(picture.bit_depth),
      shift(picture.shift),
      matrix(picture.matrix),
      range(picture.range) {
  if (num_planes < 3) return;  // gray: what is said of chroma means nothing
  chroma_width = picture.planes[1].width;
  chroma_height = picture.planes[1].height;
  chroma_scale_x = picture.chroma_scale_x;
  chroma_scale_y = picture.chroma_scale_y;
  chroma_offset_x = picture.chroma_offset_x;
  chroma_offset_y = picture.chroma_offset_y;
}

bool Geometry::operator==(const Geometry& other) const {
  return width == other.width && height == other.height && num_planes == other.num_planes && chroma_width == other.chroma_width &&
         chroma_height == other.chroma_height && bytes_per_sample == other.bytes_per_sample && bit_depth == other.bit_depth &&
         shift == other.shift && chroma_scale_x == other.chroma_scale_x && chroma_scale_y == other.chroma_scale_y &&
         chroma_offset_x == other.chroma_offset_x && chroma_offset_y == other.chroma_offset_y && matrix == other.matrix &&
         range == other.range;
}

static void check_spec(const TransformSpec& spec) {
  if (spec.height < 1 || spec.width < 1) {
    throw Error("TransformSpec: output size is " + std::to_string(spec.height) + " x " + std::to_string(spec.width) +
                "; height and width must be at least 1");
  }
  for (int c = 0; spec.normalize && c < 3; ++c) {
    // Below 1e-30 the scale 1 / std would leave what a float holds.
    if (!std::isfinite(spec.mean[c]) || !std::isfinite(spec.std[c]) || !(spec.std[c] >= 1e-30f)) {
      throw Error("TransformSpec: mean " + text(spec.mean[c]) + " and std " + text(spec.std[c]) + " of channel " + std::to_string(c) +
                  "; mean must be finite and std positive");
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
  if (!std::isfinite(box.top) || !std::isfinite(box.left) || !(box.height > 0) || !(box.width > 0) || !std::isfinite(box.height) ||
      !std::isfinite(box.width)) {
    throw Error("crop box (top " + text(box.top) + ", left " + text(box.left) + ", height " + text(box.height) + ", width " +
                text(box.width) + ") must be finite, its height and width positive");
  }
}

TransformPlan::TransformPlan(const TransformSpec& spec) : spec_(spec) {
  check_spec(spec);
  for (int c = 0; c < 3; ++c) {
    scale_[c] = spec.normalize ? static_cast<float>(1.0 / spec.std[c]) : 1.0f;
    bias_[c] = spec.normalize ? static_cast<float>(-static_cast<double>(spec.mean[c]) / spec.std[c]) : 0.0f;
  }
}

static ResampleAxis resample_axis(double box_start, double box_length, int num_outputs, double scale, double offset, int source_size,
                                  bool antialias, bool flip) {
  const double step = box_length / num_outputs;
  return {source_size, (box_start + 0.5 * step - offset) / scale + 0.5, step / scale, num_outputs, antialias, flip};
}

bool TransformPlan::set(const PictureView& picture, const CropBox& box) {
  check_geometry(picture);
  check_box(box);
  const Geometry geometry(picture);
  const bool same_box =
      box_.top == box.top && box_.left == box.left && box_.height == box.height && box_.width == box.width && box_.flip == box.flip;
  if (is_set_ && same_box && geometry_ == geometry) return false;

  is_set_ = false;
  color_ = color_coefficients(geometry.matrix, geometry.range, geometry.bit_depth, geometry.num_planes);
  for (int p = 0; p < std::min(geometry.num_planes, 2); ++p) {
    const bool is_luma = p == 0;
    const double scale_x = is_luma ? 1.0 : geometry.chroma_scale_x, scale_y = is_luma ? 1.0 : geometry.chroma_scale_y;
    const double offset_x = is_luma ? 0.5 : geometry.chroma_offset_x, offset_y = is_luma ? 0.5 : geometry.chroma_offset_y;
    resample_taps(resample_axis(box.left, box.width, spec_.width, scale_x, offset_x, picture.planes[p].width, spec_.antialias, box.flip),
                  taps_[p].horizontal);
    resample_taps(resample_axis(box.top, box.height, spec_.height, scale_y, offset_y, picture.planes[p].height, spec_.antialias, false),
                  taps_[p].vertical);
  }
  geometry_ = geometry;
  box_ = box;
  is_set_ = true;
  return true;
}

void TransformPlan::check(const PictureView& picture, const OutputView& out) const {
  if (!is_set_ || !(Geometry(picture) == geometry_)) {
    throw Error("transform: the picture's size, format or color differs from what set() was given");
  }
  if (out.column_stride != 1 && (out.column_stride != 3 || out.channel_stride != 1)) {
    throw Error("transform: output strides (channel " + std::to_string(out.channel_stride) + ", column " +
                std::to_string(out.column_stride) + ") are neither planar (column 1) nor channels-last (channel 1, column 3)");
  }
}

}  // namespace vidload
