#include "index/stream_info.h"

extern "C" {
#include <libavutil/pixdesc.h>
}

#include <cstring>
#include <new>
#include <tuple>
#include <utility>

#include "base/error.h"

namespace vidload {
namespace {

// The one list of what StreamInfo and FFmpeg's parameters both have, beside the codec and its extradata.
constexpr auto kFields = std::make_tuple(
    std::make_pair(&StreamInfo::codec_tag, &AVCodecParameters::codec_tag), std::make_pair(&StreamInfo::format, &AVCodecParameters::format),
    std::make_pair(&StreamInfo::profile, &AVCodecParameters::profile), std::make_pair(&StreamInfo::level, &AVCodecParameters::level),
    std::make_pair(&StreamInfo::coded_width, &AVCodecParameters::width),
    std::make_pair(&StreamInfo::coded_height, &AVCodecParameters::height),
    std::make_pair(&StreamInfo::bits_per_coded_sample, &AVCodecParameters::bits_per_coded_sample),
    std::make_pair(&StreamInfo::color_primaries, &AVCodecParameters::color_primaries),
    std::make_pair(&StreamInfo::color_transfer, &AVCodecParameters::color_trc),
    std::make_pair(&StreamInfo::color_space, &AVCodecParameters::color_space),
    std::make_pair(&StreamInfo::color_range, &AVCodecParameters::color_range),
    std::make_pair(&StreamInfo::chroma_location, &AVCodecParameters::chroma_location),
    std::make_pair(&StreamInfo::field_order, &AVCodecParameters::field_order),
    // So that a decoder of H.264 that does not state its delay loses no frame at the start.
    std::make_pair(&StreamInfo::reorder_depth, &AVCodecParameters::video_delay));

template <typename Visit>
void for_each_field(Visit visit) {
  std::apply([&](const auto&... field) { (visit(field.first, field.second), ...); }, kFields);
}

}  // namespace

void take_parameters(const AVCodecParameters& parameters, StreamInfo& stream) {
  stream.codec = avcodec_get_name(parameters.codec_id);
  if (const char* name = av_get_pix_fmt_name(AVPixelFormat(parameters.format))) stream.pixel_format = name;
  stream.extradata.assign(parameters.extradata, parameters.extradata + parameters.extradata_size);
  for_each_field([&](auto mine, auto theirs) { stream.*mine = int(parameters.*theirs); });
}

UniqueAVCodecParameters codec_parameters(const StreamInfo& stream) {
  const AVCodecDescriptor* descriptor = avcodec_descriptor_get_by_name(stream.codec.c_str());
  if (!descriptor) throw Error("this FFmpeg does not know the codec '" + stream.codec + "'");
  UniqueAVCodecParameters parameters(avcodec_parameters_alloc());
  if (!parameters) throw std::bad_alloc();
  parameters->codec_type = AVMEDIA_TYPE_VIDEO;
  parameters->codec_id = descriptor->id;
  for_each_field([&](auto mine, auto theirs) {
    auto& field = (*parameters).*theirs;
    field = static_cast<std::decay_t<decltype(field)>>(stream.*mine);
  });
  if (!stream.extradata.empty()) {
    parameters->extradata = static_cast<uint8_t*>(av_mallocz(stream.extradata.size() + AV_INPUT_BUFFER_PADDING_SIZE));
    if (!parameters->extradata) throw std::bad_alloc();
    std::memcpy(parameters->extradata, stream.extradata.data(), stream.extradata.size());
    parameters->extradata_size = int(stream.extradata.size());
  }
  return parameters;
}

bool have_same_parameters(const StreamInfo& a, const StreamInfo& b) {
  bool are_same = a.codec == b.codec && a.extradata == b.extradata;
  for_each_field([&](auto mine, auto) { are_same = are_same && a.*mine == b.*mine; });
  return are_same;
}

void take_picture_facts(const AVFrame& picture, StreamInfo& stream) {
  stream.coded_width = picture.width;
  stream.coded_height = picture.height;
  if (const char* name = av_get_pix_fmt_name(AVPixelFormat(picture.format))) stream.pixel_format = name;
  stream.color_primaries = picture.color_primaries;
  stream.color_transfer = picture.color_trc;
  stream.color_space = picture.colorspace;
  stream.color_range = picture.color_range;
  stream.chroma_location = picture.chroma_location;
  const AVRational aspect = picture.sample_aspect_ratio;
  if (stream.sample_aspect_ratio.num == 0 && aspect.num > 0 && aspect.den > 0) stream.sample_aspect_ratio = {aspect.num, aspect.den};
}

}  // namespace vidload
