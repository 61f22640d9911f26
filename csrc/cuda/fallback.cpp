#include "cuda/fallback.h"

namespace vidload {

const char* fallback_name(Fallback reason) {
  static const char* const names[kNumFallbacks] = {"no_nvdec",      "codec",      "chroma",        "depth",
                                                   "too_small",     "too_large",  "odd_size",      "irregular",
                                                   "create_failed", "map_failed", "decode_failed", "small_picture"};
  return names[int(reason)];
}

}  // namespace vidload
