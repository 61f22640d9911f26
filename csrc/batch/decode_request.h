// decode_request: what a batch is to hold, and where: each sample at an address and of a size of its own. Arrays are copied; `out` must
// stay valid until the batch is done or destroyed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "plan/sample_draw.h"
#include "transform/transform_spec.h"

namespace vidload {

// Of a sample, in elements of the output's dtype.
struct SampleStrides {
  ptrdiff_t view = 0, frame = 0, channel = 0, row = 0, column = 0;
};

// A sample's frames, clip by clip, clip_len each; without frames it is left out.
struct SampleRequest {
  DrawnSample drawn;
  TransformSpec spec = {};
  int clip_len = 1;
  uint8_t* out = nullptr;
  SampleStrides strides;
};

// One a sample.
using DecodeRequest = std::vector<SampleRequest>;

}  // namespace vidload
