#include "picture/picture.h"

#include <string>
#include <utility>

#include "base/error.h"

namespace vidload {

// Chroma sample 0 becomes the last one; the distance of the new sample 0 to the new edge follows from where the last one was.
static double mirrored_offset(int luma_size, int chroma_size, double scale, double offset) {
  return luma_size - (offset + (chroma_size - 1) * scale);
}

static void mirror(PictureView& picture) {
  for (int p = 0; p < picture.num_planes; ++p) {
    PlaneView& plane = picture.planes[p];
    plane.data += (plane.width - 1) * plane.pixel_stride_bytes;
    plane.pixel_stride_bytes = -plane.pixel_stride_bytes;
  }
  if (picture.num_planes < 3) return;
  picture.chroma_offset_x = mirrored_offset(picture.width, picture.planes[1].width, picture.chroma_scale_x, picture.chroma_offset_x);
}

static void transpose(PictureView& picture) {
  for (int p = 0; p < picture.num_planes; ++p) {
    PlaneView& plane = picture.planes[p];
    std::swap(plane.width, plane.height);
    std::swap(plane.row_stride_bytes, plane.pixel_stride_bytes);
  }
  std::swap(picture.width, picture.height);
  std::swap(picture.chroma_scale_x, picture.chroma_scale_y);
  std::swap(picture.chroma_offset_x, picture.chroma_offset_y);
}

// A quarter turn clockwise puts the left column, read upwards, on top: transpose, then mirror.
static void rotate_clockwise(PictureView& picture) {
  transpose(picture);
  mirror(picture);
}

PictureView oriented(PictureView coded, int rotation_degrees, bool hflip) {
  if (rotation_degrees != 0 && rotation_degrees != 90 && rotation_degrees != 180 && rotation_degrees != 270) {
    throw Error("oriented: rotation_degrees is " + std::to_string(rotation_degrees) + "; allowed are 0, 90, 180 and 270");
  }
  PictureView picture = coded;
  for (int turned = 0; turned < rotation_degrees; turned += 90) rotate_clockwise(picture);
  if (hflip) mirror(picture);
  return picture;
}

}  // namespace vidload
