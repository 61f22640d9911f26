// jpeg_decoder: an extracted frame (a JPEG file) -> YUV planes at their own resolution, by libjpeg-turbo. Color conversion and chroma
// upsampling are left to the transform, as with video.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "picture/picture.h"
#include "source/byte_source.h"

namespace vidload {

class JpegDecoder {
 public:
  JpegDecoder();
  ~JpegDecoder();
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  struct Size {
    int width, height;
  };
  // Only the header is decoded. Both throw VideoError naming the file.
  Size read_size(const std::string& path, const Cancel* cancel = nullptr);
  // Reads the file into memory (kept until the next call)...
  void read(const std::string& path, const Cancel* cancel = nullptr);
  // ...and decodes it; the view is valid until the next call.
  PictureView decode(const std::string& path);

 private:
  [[noreturn]] void fail(const std::string& path) const;
  void* handle_;
  std::vector<uint8_t> file_, planes_;
  int64_t file_size_ = 0;
};

}  // namespace vidload
