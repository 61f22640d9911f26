// stream_info: what a video stream is, in plain data, and the one place where that meets FFmpeg's structs: what a container says of the
// stream, what a decoder is opened with, and what a decoded picture adds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "source/av_handles.h"

namespace vidload {

struct Rational {
  int num = 0, den = 1;
  double value() const { return den == 0 ? 0.0 : double(num) / den; }
};

struct StreamInfo {
  int stream_number = 0;  // within the container
  std::string container;  // FFmpeg's short name, e.g. "mov,mp4,m4a,3gp,3g2,mj2"
  std::string codec;      // FFmpeg's codec name, e.g. "h264"
  std::string pixel_format;
  std::vector<uint8_t> extradata;
  int codec_tag = 0, format = -1, profile = -99, level = -99;
  int coded_width = 0, coded_height = 0;  // of a decoded picture, before rotation
  int bits_per_coded_sample = 0;
  int color_primaries = 2, color_transfer = 2, color_space = 2, color_range = 0, chroma_location = 0;  // AVCOL_*_UNSPECIFIED
  int field_order = 0;
  int inband_headers = 0;                 // an InbandHeaders, see packet_headers.h
  int reorder_depth = 0;                  // how many pictures a decoder must hold back to put frames in presentation order
  int rotation = 0;                       // degrees clockwise that turn a decoded picture upright: 0, 90, 180, 270
  bool is_mirrored = false;               // then mirrored left to right
  Rational sample_aspect_ratio = {0, 1};  // width to height of a coded pixel; 0: not stated, taken for 1
  Rational time_base, average_fps;
  double duration_seconds = 0;

  int width() const { return rotation % 180 == 0 ? coded_width : coded_height; }  // as displayed
  int height() const { return rotation % 180 == 0 ? coded_height : coded_width; }
  Rational shown_aspect_ratio() const {  // width to height of a pixel as displayed
    if (sample_aspect_ratio.num <= 0 || sample_aspect_ratio.den <= 0) return {1, 1};
    return rotation % 180 == 0 ? sample_aspect_ratio : Rational{sample_aspect_ratio.den, sample_aspect_ratio.num};
  }
};

// Takes what the parameters say: the codec's name, its extradata, the pixel format, and every field that both structs have.
void take_parameters(const AVCodecParameters& parameters, StreamInfo& stream);
// The way back: what a decoder is opened with. Throws Error for a codec that this FFmpeg does not know, bad_alloc.
UniqueAVCodecParameters codec_parameters(const StreamInfo& stream);
// Whether two streams give the same codec_parameters.
bool have_same_parameters(const StreamInfo& a, const StreamInfo& b);
// Takes what only a decoded picture tells for sure: its size, pixel format and colors.
void take_picture_facts(const AVFrame& picture, StreamInfo& stream);

}  // namespace vidload
