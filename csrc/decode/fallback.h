// fallback: why a video that a hardware decoder was asked for was decoded by software.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace vidload {

enum class Fallback {
  no_nvdec,  // no libnvcuvid.so.1, or this FFmpeg was built without it
  codec,     // the hardware does not decode it (or not bit for bit as software does)
  chroma,    // 4:2:2 or 4:4:4, not on this hardware
  depth,     // more bits than this hardware decodes
  too_small,
  too_large,
  odd_size,       // an odd width or height: where NVDEC would put the chroma is not specified
  irregular,      // packets and frames do not correspond one to one (packed AVI, fields in packets of their own)
  create_failed,  // the driver made no decoder
  map_failed,     // the driver failed on a picture
  decode_failed,  // frames were missing, as in damaged streams; the software's word is final
  small_picture,  // decoder="auto": smaller than where hardware is expected to win
  count,
};

constexpr int kNumFallbacks = int(Fallback::count);

// "no_nvdec" and so on, as stats() lists them.
const char* fallback_name(Fallback reason);

// A hardware decoder cannot have this video, or failed on it: `frame` is then the first wanted one that did not come, else -1.
class DecoderRefusal : public std::runtime_error {
 public:
  DecoderRefusal(Fallback reason, const std::string& text, int64_t frame = -1) : std::runtime_error(text), reason_(reason), frame_(frame) {}
  Fallback reason() const { return reason_; }
  int64_t frame() const { return frame_; }

 private:
  Fallback reason_;
  int64_t frame_;
};

}  // namespace vidload
