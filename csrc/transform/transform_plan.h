// transform_plan: what a transform computes once for all pictures of one geometry and one box: taps, color coefficients, scale and
// bias. Every twin, CPU or CUDA, reads the same plan; walking the pixels is theirs. Here bad arguments are found.
#pragma once

#include "transform/resample_taps.h"
#include "transform/transform_spec.h"
#include "transform/yuv_matrix.h"

namespace vidload {

// Everything of a picture that taps and coefficients depend on: not where its samples lie.
struct Geometry {
  int width = 0, height = 0, num_planes = 0;
  int chroma_width = 0, chroma_height = 0;
  int bytes_per_sample = 0, bit_depth = 0, shift = 0;
  double chroma_scale_x = 0, chroma_scale_y = 0, chroma_offset_x = 0, chroma_offset_y = 0;
  ColorMatrix matrix = ColorMatrix::bt601;
  ColorRange range = ColorRange::limited;

  Geometry() = default;
  explicit Geometry(const PictureView& picture);
  bool operator==(const Geometry& other) const;
};

struct PlaneTaps {
  ResampleTaps horizontal, vertical;
};

class TransformPlan {
 public:
  // Throws Error if the spec makes no sense.
  explicit TransformPlan(const TransformSpec& spec);

  // Prepares for pictures like `picture` (its data pointers and strides are not looked at). Returns false if nothing changed.
  // Throws Error for a picture or a box that makes no sense.
  bool set(const PictureView& picture, const CropBox& box);

  // Throws Error if this picture is not like the one of set(), or the output is neither planar nor channels-last.
  void check(const PictureView& picture, const OutputView& out) const;

  const TransformSpec& spec() const { return spec_; }
  const float* scale() const { return scale_; }  // [3], and
  const float* bias() const { return bias_; }    // [3]: step 4 of Note [The arithmetic]
  const ColorCoefficients& color() const { return color_; }
  const PlaneTaps& taps(int plane) const { return taps_[plane == 0 ? 0 : 1]; }
  int num_planes() const { return geometry_.num_planes; }
  int bytes_per_sample() const { return geometry_.bytes_per_sample; }
  int shift() const { return geometry_.shift; }

 private:
  TransformSpec spec_;
  float scale_[3], bias_[3];
  bool is_set_ = false;
  Geometry geometry_;
  CropBox box_{};
  ColorCoefficients color_{};
  PlaneTaps taps_[2 /* luma, chroma */];
};

// Bytes of one output element.
int element_size(DType dtype);

}  // namespace vidload
