// picture: decoded planes as the transform reads them. Views borrow: the decoder's frame must outlive them.
// A picture is described in DISPLAY orientation; a rotated one is the coded planes walked with other (also negative) strides,
// so that nothing after `oriented` needs to know of rotation.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vidload {

enum class ColorMatrix { bt601, bt709, bt2020, fcc, smpte240m, rgb };  // rgb: planes are G, B, R (AV_PIX_FMT_GBRP), no matrix

enum class ColorRange { limited, full };

struct PlaneView {
  const uint8_t* data;           // the plane's sample at display (0, 0)
  ptrdiff_t row_stride_bytes;    // from a sample to the one below it
  ptrdiff_t pixel_stride_bytes;  // from a sample to the one right of it: 2 for NV12's chroma, 4 for P010's
  int width, height;             // samples
};

struct PictureView {
  int width, height;                        // luma samples
  int num_planes;                           // 1 (gray) or 3
  PlaneView planes[3];                      // Y, U, V, or G, B, R
  int bytes_per_sample;                     // 1 or 2 (little endian)
  int bit_depth;                            // 8 to 16
  int shift;                                // right shift that makes a stored sample a value of bit_depth bits: 6 for P010, else 0
  double chroma_scale_x, chroma_scale_y;    // luma samples per chroma sample: 1, 2 or 4
  double chroma_offset_x, chroma_offset_y;  // center of chroma sample 0 in luma pixels (pixel k spans [k, k + 1]); see Note [Chroma siting]
  ColorMatrix matrix;
  ColorRange range;
};

// The coded picture as it is to be shown: turned clockwise by 0, 90, 180 or 270 degrees, then mirrored left to right if hflip.
// Throws Error for any other angle.
PictureView oriented(PictureView coded, int rotation_degrees, bool hflip);

// Note [Chroma siting]
// Subsampled chroma sits where the stream's chroma_sample_location says. In luma pixels, pixel k spanning [k, k + 1], the center
// of luma sample 0 is 0.5 and chroma sample 0 of 4:2:0 lies at
//     left (MPEG-2, H.264, HEVC default):  x 0.5 (co-sited with luma column 0), y 1.0 (midway between rows 0 and 1)
//     center (JPEG, MPEG-1):               x 1.0, y 1.0
//     top left (BT.2020, DV):              x 0.5, y 0.5
// Source: Rec. ITU-T H.264 (08/2021), Annex E, figure E-1 and table E-4: chroma_sample_loc_type 0 = left, 1 = center, 2 = top left;
// type 0 is inferred when absent. 4:2:2 is co-sited horizontally (x 0.5), and an axis without subsampling has offset 0.5.
// Mirroring an axis moves the offset: see mirror() in picture.cpp.

}  // namespace vidload
