// decode_request: what a batch is to hold, and where. Arrays are copied; `out` must stay valid until the batch is done or destroyed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "plan/sample_draw.h"
#include "transform/transform_spec.h"

namespace vidload {

// In elements of the output's dtype.
struct BatchStrides {
  ptrdiff_t sample = 0, view = 0, frame = 0, channel = 0, row = 0, column = 0;
};

struct DecodeRequest {
  TransformSpec spec;
  int clip_len = 1;
  std::vector<DrawnSample> samples;  // frames clip by clip, clip_len each
  uint8_t* out = nullptr;
  BatchStrides strides;
};

}  // namespace vidload
