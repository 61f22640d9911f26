// nvdec_caps: what the decoding engines of a GPU can take, asked of libnvcuvid.so.1 (loaded at first use) before a decoder is made.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "device/device.h"
#include "index/packet_index.h"

namespace vidload {

struct NvdecCaps {
  bool is_supported = false;
  int num_engines = 0;
  int min_width = 0, min_height = 0, max_width = 0, max_height = 0, max_macroblocks = 0;
};

// Codecs that NVDEC decodes bit for bit as libavcodec does, since their standards leave no choice: FFmpeg's names.
const std::vector<std::string>& nvdec_codecs();

// Of one codec with a chroma format (1 = 4:2:0, 2 = 4:2:2, 3 = 4:4:4) and bit depth; nothing when there is no libnvcuvid or it does
// not answer. Under the device's CurrentContext; answers are kept.
std::optional<NvdecCaps> nvdec_caps(const CudaDevice& device, const std::string& codec, int chroma_format, int bit_depth);

// Throws DecoderRefusal when this GPU cannot decode the stream. Under the device's CurrentContext.
void check_nvdec_takes(const CudaDevice& device, const StreamInfo& stream, bool is_regular);

}  // namespace vidload
