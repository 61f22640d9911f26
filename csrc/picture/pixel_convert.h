// pixel_convert: pictures in pixel formats that the transform does not read (palettes, packed RGB of 4 to 6 bits, big-endian samples,
// floats, Bayer patterns) become RGB, gray or little-endian ones of the same kind by libswscale. Off the fast path: video codecs in use
// decode to formats that need none of it.
#pragma once

#include <string>

#include "source/av_handles.h"

struct SwsContext;

namespace vidload {

// Whether the transform reads a format as it is.
bool is_read_directly(AVPixelFormat format);
// Whether it does so at least after PixelConverter's work.
bool can_convert(AVPixelFormat format);

class PixelConverter {
 public:
  PixelConverter() = default;
  ~PixelConverter();
  PixelConverter(const PixelConverter&) = delete;
  PixelConverter& operator=(const PixelConverter&) = delete;

  // The frame itself where the transform reads it, else a converted one, valid until the next call. Throws VideoError naming `path` where
  // libswscale cannot read the format either.
  const AVFrame& converted(const AVFrame& frame, const std::string& path);

 private:
  SwsContext* context_ = nullptr;
  UniqueAVFrame frame_;
};

}  // namespace vidload
