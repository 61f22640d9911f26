// transform: one resampling from the decoder's planes to the training tensor: crop, resize, flip, color, normalize, convert.
// In: a PictureView and a CropBox. Out: one picture written to its place in the batch. Choosing the box is the policy's work
// (vidload.transforms); decoding and batching lie before and after. Note [The arithmetic] in pixel_math.h defines every bit.
#pragma once

#include <memory>

#include "base/cpu_level.h"
#include "transform/transform_spec.h"

namespace vidload {

// Resamples pictures of one geometry at a time and keeps its tables and scratch memory between them. For one thread at a time.
class Resampler {
 public:
  // Throws Error if the spec makes no sense, or names a level this machine cannot run.
  explicit Resampler(const TransformSpec& spec, CpuLevel level = cpu_level());
  ~Resampler();
  Resampler(Resampler&&) noexcept;
  Resampler& operator=(Resampler&&) noexcept;

  // Prepares for pictures like `geometry` (its data pointers and strides are not looked at) and this box. Cheap if nothing
  // changed. Throws Error for a picture or a box that makes no sense.
  void set(const PictureView& geometry, const CropBox& box);

  // Writes picture's pixels to out, of spec's height and width. Throws Error if picture is not like the geometry of set().
  void run(const PictureView& picture, const OutputView& out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vidload
