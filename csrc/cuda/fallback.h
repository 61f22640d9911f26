// fallback: why a video was decoded by the CPU although its clips go to the GPU.
#pragma once

#include <stdexcept>
#include <string>

namespace vidload {

enum class Fallback {
  no_nvdec,  // no libnvcuvid.so.1, or this FFmpeg was built without it
  codec,     // NVDEC of this GPU does not decode it (or not bit for bit as the CPU does)
  chroma,    // 4:2:2 or 4:4:4, not on this GPU
  depth,     // more bits than this GPU decodes
  too_small,
  too_large,
  odd_size,       // an odd width or height: where NVDEC would put the chroma is not specified
  irregular,      // packets and frames do not correspond one to one (packed AVI, field pairs)
  create_failed,  // the driver made no decoder
  map_failed,     // the driver failed on a picture
  decode_failed,  // frames were missing, as in damaged streams; the CPU's word is final
  small_picture,  // decoder="auto": smaller than where NVDEC is expected to win
  count,
};

constexpr int kNumFallbacks = int(Fallback::count);

// "no_nvdec" and so on, as stats() lists them.
const char* fallback_name(Fallback reason);

// NVDEC cannot have this video.
class NvdecRefusal : public std::runtime_error {
 public:
  NvdecRefusal(Fallback reason, const std::string& text) : std::runtime_error(text), reason_(reason) {}
  Fallback reason() const { return reason_; }

 private:
  Fallback reason_;
};

}  // namespace vidload
