// worker: what one thread of a pool keeps from sample to sample: open decoders, resampling tables, scratch memory.
#pragma once

#include <memory>
#include <vector>

#include "base/cancel.h"
#include "batch/choose_decoder.h"
#include "decode/decoder_pool.h"
#include "decode/jpeg_decoder.h"
#include "decode/software_decoder.h"
#include "device/device_transform.h"
#include "transform/transform.h"

namespace vidload {

// The software decoders of one thread, or of one reader.
inline DecoderPool::Open open_software(bool allow_damaged = false) {
  return [allow_damaged](const StreamInfo& stream, const std::string& path) {
    return std::make_unique<SoftwareDecoder>(stream, path, allow_damaged);
  };
}

struct Worker {
  explicit Worker(const DecodePolicy& policy) : policy(policy) {}

  const DecodePolicy policy;
  DecoderPool decoders{open_software(), {16, 4 * 1920 * 1088}};
  JpegDecoder jpeg;
  std::vector<Resampler> resamplers;  // one a view, so that its tables last for the whole clip
  TransformSpec spec = {};
  const Cancel* cancel = nullptr;          // of the sample at work
  UniqueDeviceTransform device_transform;  // where batches are a GPU's

  Resampler& resampler(const TransformSpec& wanted, size_t view) {
    if (!(spec == wanted)) {
      resamplers.clear();
      spec = wanted;
    }
    while (resamplers.size() <= view) resamplers.emplace_back(wanted);
    return resamplers[view];
  }
};

}  // namespace vidload
