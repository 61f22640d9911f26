#include "decode/jpeg_decoder.h"

#include <turbojpeg.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "base/error.h"
#include "base/limits.h"

namespace vidload {

JpegDecoder::JpegDecoder() : handle_(tjInitDecompress()) {
  if (!handle_) throw Error("libjpeg-turbo could not be started");
}

JpegDecoder::~JpegDecoder() { tjDestroy(handle_); }

void JpegDecoder::fail(const std::string& path) const {
  // libjpeg-turbo has no code for it: "Insufficient memory (case 4)", "Memory allocation failure".
  if (std::strstr(tjGetErrorStr2(handle_), "emory")) throw std::bad_alloc();
  throw VideoError(VideoErrorKind::damaged, path, -1,
                   std::string("cannot decode this JPEG frame: ") + tjGetErrorStr2(handle_) + "; extract the frames again");
}

// Makes room for `size` bytes. Memory that one large picture needed is not kept for the many small ones.
static void fit(std::vector<uint8_t>& buffer, size_t size) {
  constexpr size_t kKept = 32 << 20;
  if (buffer.size() >= size && buffer.size() <= std::max(kKept, 4 * size)) return;
  std::vector<uint8_t>().swap(buffer);  // before the new memory is taken
  buffer.resize(size);
}

void JpegDecoder::read(const std::string& path, const Cancel* cancel) {
  const std::unique_ptr<ByteSource> source = open_source(SourceId(path), cancel);
  check_limit(source->size(), video_limits().jpeg_bytes, "bytes of a JPEG file", "jpeg_bytes", path);
  constexpr size_t kPadding = 64;
  fit(file_, size_t(source->size()) + kPadding);
  file_size_ = source->read(0, file_.data(), source->size());
}

JpegDecoder::Size JpegDecoder::read_size(const std::string& path, const Cancel* cancel) {
  read(path, cancel);
  int width = 0, height = 0, subsampling = 0, color_space = 0;
  if (tjDecompressHeader3(handle_, file_.data(), size_t(file_size_), &width, &height, &subsampling, &color_space) != 0) fail(path);
  check_limit(int64_t{width} * height, video_limits().jpeg_pixels, "pixels of a JPEG file", "jpeg_pixels", path);
  return {width, height};
}

PictureView JpegDecoder::decode(const std::string& path) {
  int width = 0, height = 0, subsampling = 0, color_space = 0;
  if (tjDecompressHeader3(handle_, file_.data(), size_t(file_size_), &width, &height, &subsampling, &color_space) != 0) fail(path);
  check_limit(int64_t{width} * height, video_limits().jpeg_pixels, "pixels of a JPEG file", "jpeg_pixels", path);
  if ((color_space != TJCS_YCbCr && color_space != TJCS_GRAY) || subsampling < 0 || subsampling >= TJ_NUMSAMP) {
    throw VideoError(VideoErrorKind::unsupported, path, -1,
                     "is a JPEG of another color space than YCbCr or gray (RGB, CMYK); extract the frames again");
  }
  const bool is_gray = subsampling == TJSAMP_GRAY;
  PictureView picture = {};
  picture.width = width;
  picture.height = height;
  picture.num_planes = is_gray ? 1 : 3;
  picture.bytes_per_sample = 1;
  picture.bit_depth = 8;
  picture.chroma_scale_x = is_gray ? 1 : tjMCUWidth[subsampling] / 8;
  picture.chroma_scale_y = is_gray ? 1 : tjMCUHeight[subsampling] / 8;
  picture.chroma_offset_x = picture.chroma_scale_x / 2;  // JFIF 1.02: chroma is centered among its luma samples
  picture.chroma_offset_y = picture.chroma_scale_y / 2;
  picture.matrix = ColorMatrix::bt601;  // JFIF: BT.601, full range
  picture.range = ColorRange::full;

  size_t total = 0, offsets[3] = {};
  int strides[3] = {};
  for (int i = 0; i < picture.num_planes; ++i) {
    PlaneView& plane = picture.planes[i];
    const int scale_x = i > 0 ? int(picture.chroma_scale_x) : 1, scale_y = i > 0 ? int(picture.chroma_scale_y) : 1;
    plane.width = (width + scale_x - 1) / scale_x;
    plane.height = (height + scale_y - 1) / scale_y;
    strides[i] = (tjPlaneWidth(i, width, subsampling) + 31) / 32 * 32;  // TurboJPEG's planes are padded to whole chroma samples
    offsets[i] = total;
    total += size_t(strides[i]) * size_t(tjPlaneHeight(i, height, subsampling));
  }
  fit(planes_, total);
  unsigned char* pointers[3] = {};
  for (int i = 0; i < picture.num_planes; ++i) {
    pointers[i] = planes_.data() + offsets[i];
    picture.planes[i].data = pointers[i];
    picture.planes[i].row_stride_bytes = strides[i];
    picture.planes[i].pixel_stride_bytes = 1;
  }
  const int code = tjDecompressToYUVPlanes(handle_, file_.data(), size_t(file_size_), pointers, width, strides, height, 0);
  // A file cut short gives only a warning (and gray), and so does padding between segments, which harms nothing.
  if (code != 0 && !std::strstr(tjGetErrorStr2(handle_), "extraneous bytes")) fail(path);
  return picture;
}

}  // namespace vidload
