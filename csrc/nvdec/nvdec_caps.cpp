#include "nvdec/nvdec_caps.h"

#include <dlfcn.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

extern "C" {
#include <libavutil/pixdesc.h>
}

#include "decode/fallback.h"

namespace vidload {
namespace {

// CUVIDDECODECAPS of NVIDIA's cuviddec.h.
struct DecodeCaps {
  int codec, chroma_format;
  unsigned bit_depth_minus_8;
  unsigned reserved1[3];
  unsigned char is_supported, num_engines;
  unsigned short output_format_mask;
  unsigned max_width, max_height, max_macroblocks;
  unsigned short min_width, min_height;
  unsigned char is_histogram_supported, counter_bit_depth;
  unsigned short max_histogram_bins;
  unsigned reserved3[10];
};
static_assert(sizeof(DecodeCaps) == 88, "the layout is NVIDIA's");

using GetDecoderCaps = CUresult (*)(DecodeCaps*);

GetDecoderCaps get_decoder_caps() {
  static const GetDecoderCaps function = [] {
    void* library = dlopen("libnvcuvid.so.1", RTLD_NOW | RTLD_LOCAL);
    return library ? reinterpret_cast<GetDecoderCaps>(dlsym(library, "cuvidGetDecoderCaps")) : nullptr;
  }();
  return function;
}

// cudaVideoCodec's numbers.
int cuvid_codec(const std::string& codec) {
  const std::pair<const char*, int> known[] = {{"h264", 4}, {"hevc", 8}, {"vp8", 9}, {"vp9", 10}, {"av1", 11}};
  for (const auto& [name, number] : known) {
    if (codec == name) return number;
  }
  return -1;
}

}  // namespace

const std::vector<std::string>& nvdec_codecs() {
  static const auto* codecs = new std::vector<std::string>{"h264", "hevc", "vp8", "vp9", "av1"};
  return *codecs;
}

std::optional<NvdecCaps> nvdec_caps(const CudaDevice& device, const std::string& codec, int chroma_format, int bit_depth) {
  using Key = std::tuple<int, std::string, int, int>;
  static auto* mutex = new std::mutex;
  static auto* known = new std::map<Key, std::optional<NvdecCaps>>;
  std::lock_guard<std::mutex> lock(*mutex);
  const auto [found, is_new] = known->try_emplace({device.ordinal(), codec, chroma_format, bit_depth});
  if (!is_new || !get_decoder_caps() || cuvid_codec(codec) < 0) return found->second;
  DecodeCaps caps = {};
  caps.codec = cuvid_codec(codec);
  caps.chroma_format = chroma_format;
  caps.bit_depth_minus_8 = unsigned(bit_depth - 8);
  if (get_decoder_caps()(&caps) != 0) return found->second;
  found->second = {caps.is_supported != 0, caps.num_engines,     caps.min_width,           caps.min_height,
                   int(caps.max_width),    int(caps.max_height), int(caps.max_macroblocks)};
  return found->second;
}

void check_nvdec_takes(const CudaDevice& device, const StreamInfo& stream, bool is_regular) {
  if (!get_decoder_caps()) throw DecoderRefusal(Fallback::no_nvdec, "libnvcuvid.so.1 (a part of the NVIDIA driver) cannot be loaded");
  const auto& codecs = nvdec_codecs();
  if (std::find(codecs.begin(), codecs.end(), stream.codec) == codecs.end()) {
    throw DecoderRefusal(Fallback::codec, "NVDEC is not used for codec '" + stream.codec + "'");
  }
  if (!is_regular) throw DecoderRefusal(Fallback::irregular, "its packets and frames do not correspond one to one, or its headers change");
  const AVPixFmtDescriptor* format = av_pix_fmt_desc_get(av_get_pix_fmt(stream.pixel_format.c_str()));
  const bool is_yuv = format && format->nb_components >= 3 && !(format->flags & AV_PIX_FMT_FLAG_RGB);
  const int chroma_format = !is_yuv ? 0 : format->log2_chroma_w == 0 ? 3 : format->log2_chroma_h == 0 ? 2 : 1;
  const int bit_depth = format ? format->comp[0].depth : 8;
  if (!is_yuv || format->log2_chroma_w > 1 || format->log2_chroma_h > format->log2_chroma_w) {
    throw DecoderRefusal(Fallback::chroma, "NVDEC does not decode pixel format '" + stream.pixel_format + "'");
  }
  const std::string what = stream.codec + " " + stream.pixel_format;
  const auto caps = nvdec_caps(device, stream.codec, chroma_format, bit_depth);
  if (!caps || !caps->is_supported) {
    const auto plain = nvdec_caps(device, stream.codec, 1, 8), subsampled = nvdec_caps(device, stream.codec, 1, bit_depth);
    if (!plain || !plain->is_supported) throw DecoderRefusal(Fallback::codec, "this GPU does not decode " + stream.codec);
    if (chroma_format != 1 && subsampled && subsampled->is_supported) {
      throw DecoderRefusal(Fallback::chroma, "this GPU does not decode " + what);
    }
    throw DecoderRefusal(Fallback::depth, "this GPU does not decode " + what);
  }
  const int width = stream.coded_width, height = stream.coded_height;
  const std::string size = std::to_string(width) + "x" + std::to_string(height);
  if (width < caps->min_width || height < caps->min_height) {
    throw DecoderRefusal(Fallback::too_small, size + " is less than this GPU decodes (" + std::to_string(caps->min_width) + "x" +
                                                  std::to_string(caps->min_height) + ")");
  }
  if (width % 2 != 0 || height % 2 != 0) throw DecoderRefusal(Fallback::odd_size, size + " is odd");
  const int macroblocks = ((width + 15) / 16) * ((height + 15) / 16);
  if (width > caps->max_width || height > caps->max_height || macroblocks > caps->max_macroblocks) {
    throw DecoderRefusal(Fallback::too_large, size + " is more than this GPU decodes (" + std::to_string(caps->max_width) + "x" +
                                                  std::to_string(caps->max_height) + ", " + std::to_string(caps->max_macroblocks) +
                                                  " macroblocks)");
  }
}

}  // namespace vidload
