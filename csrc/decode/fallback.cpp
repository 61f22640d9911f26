#include "decode/fallback.h"

namespace vidload {

const char* fallback_name(Fallback reason) {
  switch (reason) {
    case Fallback::no_nvdec: return "no_nvdec";
    case Fallback::codec: return "codec";
    case Fallback::chroma: return "chroma";
    case Fallback::depth: return "depth";
    case Fallback::too_small: return "too_small";
    case Fallback::too_large: return "too_large";
    case Fallback::odd_size: return "odd_size";
    case Fallback::irregular: return "irregular";
    case Fallback::create_failed: return "create_failed";
    case Fallback::map_failed: return "map_failed";
    case Fallback::decode_failed: return "decode_failed";
    case Fallback::small_picture: return "small_picture";
    case Fallback::count: break;
  }
  return "unknown";
}

}  // namespace vidload
