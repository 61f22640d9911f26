// A stand-in for libnvcuvid.so.1: FFmpeg parses streams and drives the decoder as with NVDEC; pictures come from a software decode of
// files that the test has named, found again by a hash of the slice data that NVDEC is given. Layouts are those of NVIDIA's cuviddec.h.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "known_pictures.h"
#include "stub.h"

struct DecodeCaps {  // CUVIDDECODECAPS
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

struct CreateInfo {  // CUVIDDECODECREATEINFO, its first fields
  unsigned long width, height, num_surfaces;
  int codec, chroma_format;
  unsigned long flags, bit_depth_minus_8, intra_only, max_width, max_height, reserved1;
  short display_left, display_top, display_right, display_bottom;
  int output_format, deinterlace_mode;
  unsigned long target_width, target_height, num_outputs;
};

struct PictureParameters {  // CUVIDPICPARAMS, its first fields
  int width_in_macroblocks, height_in_macroblocks, surface, is_field, is_bottom_field, is_second_field;
  unsigned num_bytes;
  const uint8_t* bytes;
  unsigned num_slices;
  const unsigned* slice_offsets;
  int is_reference, is_intra;
  unsigned reserved[30];
  unsigned av1_width, av1_height, av1_order_hint;  // CUVIDAV1PICPARAMS, its first fields; a union with those of other codecs
};

struct MapParameters {  // CUVIDPROCPARAMS, its first fields
  int is_progressive, second_field, top_field_first, unpaired_field;
  unsigned reserved_flags, reserved_zero;
  unsigned long long raw_input;
  unsigned raw_input_pitch, raw_input_format;
  unsigned long long raw_output;
  unsigned raw_output_pitch, reserved1;
  CUstream output_stream;
};

namespace {

struct Output {
  CUdeviceptr memory = 0;
  bool is_mapped = false, is_used = false;
  CUstream stream = nullptr;
};

struct Decoder {
  CreateInfo info;
  Chain chain;
  std::vector<std::shared_ptr<Picture>> surfaces;
  std::set<int> lost;  // surfaces whose picture did not reach them
  std::vector<Output> outputs;
  size_t pitch = 0, bytes = 0;
  std::mutex mutex;
};

// What the tests say this NVDEC can do.
int max_width = 4096, max_height = 4096, min_width = 48, min_height = 16, max_macroblocks = 65536, num_engines = 1;
std::set<int> codecs_decoded = {kH264, kHevc, kVp9};
std::atomic<long> num_until_lost{0};

void fill(uint8_t* memory, size_t pitch, int width, int height, const Picture* picture) {
  std::memset(memory, 0x55, pitch * size_t(height) * 3 / 2);
  if (!picture) return;
  const int bytes = picture->bytes_per_sample;
  for (int y = 0; y < std::min(height, picture->height); ++y) {
    std::memcpy(memory + size_t(y) * pitch, &picture->planes[0][size_t(y) * picture->width * bytes],
                size_t(std::min(width, picture->width)) * bytes);
  }
  const int chroma_width = (picture->width + 1) / 2, chroma_height = (picture->height + 1) / 2;
  for (int y = 0; y < std::min(height / 2, chroma_height); ++y) {
    uint8_t* row = memory + pitch * size_t(height + y);
    for (int x = 0; x < std::min(width / 2, chroma_width); ++x) {
      for (int p = 0; p < 2; ++p) {
        std::memcpy(row + (2 * x + p) * bytes, &picture->planes[1 + p][(size_t(y) * chroma_width + x) * bytes], size_t(bytes));
      }
    }
  }
}

}  // namespace

extern "C" STUB_EXPORT void stub_set_limits(int least_width, int least_height, int most_width, int most_height, int macroblocks) {
  min_width = least_width, min_height = least_height, max_width = most_width, max_height = most_height, max_macroblocks = macroblocks;
}

extern "C" STUB_EXPORT void stub_set_num_engines(int count) { num_engines = count; }
extern "C" STUB_EXPORT void stub_decode_codec(int codec) { codecs_decoded.insert(codec); }
// The nth picture from now on does not reach its surface, and no call says so but cuvidGetDecodeStatus.
extern "C" STUB_EXPORT void stub_lose_picture(long nth) { num_until_lost = nth; }

STUB_API cuvidGetDecoderCaps(DecodeCaps* caps) {
  STUB_ENTER;
  if (!stub::has_context()) return kInvalidContext;
  const bool is_known = codecs_decoded.count(caps->codec) > 0;
  const bool is_deep_h264 = caps->codec == kH264 && caps->bit_depth_minus_8 > 0;
  caps->is_supported = is_known && caps->chroma_format == 1 && caps->bit_depth_minus_8 <= 2 && !is_deep_h264;
  caps->num_engines = (unsigned char)num_engines;
  caps->output_format_mask = caps->bit_depth_minus_8 ? 3 : 1;
  caps->max_width = unsigned(max_width), caps->max_height = unsigned(max_height), caps->max_macroblocks = unsigned(max_macroblocks);
  caps->min_width = (unsigned short)min_width, caps->min_height = (unsigned short)min_height;
  return kSuccess;
}

STUB_API cuvidCreateDecoder(void** handle, CreateInfo* info) {
  STUB_ENTER;
  if (!stub::has_context()) return kInvalidContext;
  if (info->num_surfaces < 1 || info->num_surfaces > 32 || info->num_outputs > info->num_surfaces) return kInvalidValue;
  if (info->width % 2 != 0 || info->height % 2 != 0) return kInvalidValue;
  auto* decoder = new Decoder;
  decoder->info = *info;
  decoder->surfaces.resize(info->num_surfaces);
  decoder->outputs.resize(info->num_outputs);
  decoder->pitch = (info->target_width * (info->output_format == 1 ? 2 : 1) + 511) / 512 * 512;
  decoder->bytes = decoder->pitch * ((info->target_height + 1) / 2 * 3);
  for (Output& output : decoder->outputs) output.memory = stub::allocate(decoder->bytes);
  *handle = decoder;
  stub::count("decoders_created", 1);
  stub::count("live_decoders", 1);
  return kSuccess;
}

STUB_API cuvidDestroyDecoder(void* handle) {
  auto* decoder = static_cast<Decoder*>(handle);
  for (const Output& output : decoder->outputs) {
    if (output.is_used) stub::finish(output.stream);  // freeing device memory waits for its users, as the driver does
    if (output.is_mapped) stub::count("mapped_surfaces", -1), stub::count("surfaces_never_unmapped", 1);
    stub::release(output.memory);
  }
  delete decoder;
  stub::count("live_decoders", -1);
  return kSuccess;
}

STUB_API cuvidDecodePicture(void* handle, PictureParameters* parameters) {
  STUB_ENTER;
  auto* decoder = static_cast<Decoder*>(handle);
  std::lock_guard<std::mutex> decoder_lock(decoder->mutex);
  if (size_t(parameters->surface) >= decoder->surfaces.size()) return kInvalidValue;
  stub::count("pictures_decoded", 1);
  const int codec = decoder->info.codec;
  const bool has_nals = codec == kH264 || codec == kHevc, has_tiles = codec == kAv1;
  const uint64_t key = has_tiles ? parameters->av1_order_hint : hash(kHashStart, parameters->bytes, parameters->num_bytes);
  const uint64_t chain = decoder->chain.at(codec, parameters->bytes + (has_nals ? 3 : 0), key);
  std::shared_ptr<Picture>& surface = decoder->surfaces[size_t(parameters->surface)];
  decoder->lost.erase(parameters->surface);
  if (num_until_lost > 0 && --num_until_lost == 0) {
    decoder->lost.insert(parameters->surface);
    return kSuccess;
  }
  std::shared_ptr<Picture> picture = find_picture(key, chain, has_tiles ? parameters->bytes : nullptr, parameters->num_bytes);
  if (!picture) stub::count("unknown_pictures", 1);
  if (picture && parameters->is_field) {
    stub::count("fields_decoded", 1);
    picture = with_field(picture, parameters->is_bottom_field, parameters->is_second_field ? surface : nullptr);
  }
  surface = std::move(picture);
  return kSuccess;
}

STUB_API cuvidMapVideoFrame64(void* handle, int index, unsigned long long* memory, unsigned* pitch, MapParameters* parameters) {
  STUB_ENTER;
  auto* decoder = static_cast<Decoder*>(handle);
  std::lock_guard<std::mutex> lock(decoder->mutex);
  if (size_t(index) >= decoder->surfaces.size()) return kInvalidValue;
  for (Output& output : decoder->outputs) {
    if (output.is_mapped) continue;
    output.is_mapped = output.is_used = true;
    output.stream = parameters->output_stream;
    stub::count("mapped_surfaces", 1);
    stub::count("maps", 1);
    stub::post(output.stream, [to = output.memory, pitch = decoder->pitch, width = int(decoder->info.target_width),
                               height = int(decoder->info.target_height), picture = decoder->surfaces[size_t(index)]] {
      fill(stub::reachable(to), pitch, width, height, picture.get());
    });
    *memory = output.memory;
    *pitch = unsigned(decoder->pitch);
    return kSuccess;
  }
  return kInvalidValue;  // as the driver: too many surfaces mapped
}

STUB_API cuvidUnmapVideoFrame64(void* handle, unsigned long long memory) {
  STUB_ENTER;
  auto* decoder = static_cast<Decoder*>(handle);
  std::lock_guard<std::mutex> lock(decoder->mutex);
  for (Output& output : decoder->outputs) {
    if (output.memory != memory || !output.is_mapped) continue;
    output.is_mapped = false;
    stub::count("mapped_surfaces", -1);
    // The driver may overwrite it once the stream it was mapped on has come this far.
    stub::post(output.stream, [memory, bytes = decoder->bytes] { std::memset(stub::reachable(memory), 0xEE, bytes); });
    return kSuccess;
  }
  return kInvalidValue;
}

struct DecodeStatus {
  int status;
};
STUB_API cuvidGetDecodeStatus(void* handle, int surface, DecodeStatus* status) {
  auto* decoder = static_cast<Decoder*>(handle);
  std::lock_guard<std::mutex> lock(decoder->mutex);
  status->status = decoder->lost.count(surface) ? 8 : 2;  // error, success
  return kSuccess;
}
STUB_API cuvidCtxLockCreate(void** lock, CUcontext) {
  *lock = std::malloc(1);
  return kSuccess;
}
STUB_API cuvidCtxLockDestroy(void* lock) {
  std::free(lock);
  return kSuccess;
}
STUB_API cuvidCtxLock(void*, unsigned) { return kSuccess; }
STUB_API cuvidCtxUnlock(void*, unsigned) { return kSuccess; }

// FFmpeg refuses a library that lacks one of these names; none may be called. Its hwaccel never reconfigures a decoder (4.4 to 8.1).
#define STUB_MISSING(name)                                              \
  extern "C" STUB_EXPORT CUresult name() {                              \
    stub::count("missing_calls", 1);                                    \
    std::fprintf(stderr, "stub NVDEC: %s is not implemented\n", #name); \
    return kUnsupported;                                                \
  }
STUB_MISSING(cuvidReconfigureDecoder)
STUB_MISSING(cuvidMapVideoFrame)
STUB_MISSING(cuvidUnmapVideoFrame)
STUB_MISSING(cuvidCreateVideoSource)
STUB_MISSING(cuvidCreateVideoSourceW)
STUB_MISSING(cuvidDestroyVideoSource)
STUB_MISSING(cuvidSetVideoSourceState)
STUB_MISSING(cuvidGetVideoSourceState)
STUB_MISSING(cuvidGetSourceVideoFormat)
STUB_MISSING(cuvidGetSourceAudioFormat)
STUB_MISSING(cuvidCreateVideoParser)
STUB_MISSING(cuvidParseVideoData)
STUB_MISSING(cuvidDestroyVideoParser)
