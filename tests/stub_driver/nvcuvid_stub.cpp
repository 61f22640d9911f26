// A stand-in for libnvcuvid.so.1: FFmpeg parses streams and drives the decoder as with NVDEC; pictures come from a software decode of
// files that the test has named, found again by a hash of the slice data that NVDEC is given. Layouts are those of NVIDIA's cuviddec.h.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/pixdesc.h>
}

#include "stub.h"

namespace {

enum Codec { kH264 = 4, kHevc = 8, kVp8 = 9, kVp9 = 10, kAv1 = 11 };

// ---- the pictures of the files ----

struct Picture {
  int width, height, bytes_per_sample;
  std::vector<uint8_t> planes[3];
};
struct Known {
  uint64_t chain;
  std::shared_ptr<Picture> picture;
};
std::mutex mutex;
std::unordered_map<uint64_t, std::vector<Known>> known;  // by hash of a picture's slice data

constexpr uint64_t kHashStart = 1469598103934665603ull, kHashPrime = 1099511628211ull;
uint64_t hash(uint64_t start, const uint8_t* data, size_t size) {
  for (size_t i = 0; i < size; ++i) start = (start ^ data[i]) * kHashPrime;
  return start;
}

// What a picture depends on, as far as it can be told from its slice data: equal slices occur (frame numbers wrap), so pictures are told
// apart by all reference pictures since the last one that decoding can start at. Droppable pictures do not count: vidload leaves them out.
struct Chain {
  uint64_t value = 0;
  uint64_t at(int codec, const uint8_t* first_slice, uint64_t picture) {
    bool starts = false, is_reference = true;
    if (codec == kH264) {
      starts = (first_slice[0] & 31) == 5;
      is_reference = first_slice[0] >> 5 & 3;
    } else if (codec == kHevc) {
      const int type = first_slice[0] >> 1 & 63;
      starts = type >= 16 && type <= 23;
      is_reference = type >= 16 || type % 2 == 1;
    } else {
      return 0;
    }
    if (starts) value = 0;
    const uint64_t here = value * kHashPrime ^ picture;
    if (is_reference) value = here;
    return here;
  }
};

struct Slices {
  uint64_t hash = kHashStart;
  const uint8_t* first = nullptr;
};

// AV1's tiles are handed over without the frame header before them. They reach to the end of what they are in, so that the last bytes name
// them.
Slices tiles_of(const uint8_t* data, size_t size) {
  const size_t taken = std::min<size_t>(size, 16);
  return {hash(kHashStart, data + size - taken, taken), data};
}

// Those of the last frame in the packet, which is the one it shows in streams coded without hidden frames.
Slices av1_tiles_of(const AVPacket& packet) {
  Slices slices;
  const uint8_t *at = packet.data, *end = at + packet.size;
  while (at < end) {
    const int type = *at >> 3 & 15;
    const bool has_extension = *at & 4, has_size = *at & 2;
    at += has_extension ? 2 : 1;
    size_t size = size_t(end - at);
    if (has_size) {
      size = 0;
      for (int shift = 0; at < end; shift += 7) {
        const uint8_t byte = *at++;
        size |= size_t(byte & 127) << shift;
        if (!(byte & 128)) break;
      }
    }
    size = std::min(size, size_t(end - at));
    if (type == 4 || type == 6) slices = tiles_of(at, size);  // tile group, frame
    at += size;
  }
  return slices;
}

// The slices of a packet as FFmpeg hands them to NVDEC: 00 00 01 and the NAL unit, one after the other.
Slices slices_of(int codec, const AVCodecParameters& parameters, const AVPacket& packet) {
  Slices slices;
  if (codec == kAv1) return av1_tiles_of(packet);
  if (codec == kVp9 || codec == kVp8) return {hash(kHashStart, packet.data, size_t(packet.size)), packet.data};
  const auto add = [&](const uint8_t* nal, size_t size) {
    if (size < 2) return;
    const int type = codec == kH264 ? nal[0] & 31 : nal[0] >> 1 & 63;
    if (codec == kH264 ? type != 1 && type != 5 : type >= 32) return;
    const uint8_t start_code[3] = {0, 0, 1};
    slices.hash = hash(hash(slices.hash, start_code, 3), nal, size);
    if (!slices.first) slices.first = nal;
  };
  const uint8_t *at = packet.data, *end = at + packet.size;
  const bool has_lengths = parameters.extradata_size > 6 && parameters.extradata[0] == 1;
  if (has_lengths) {
    const int length_size = (parameters.extradata[codec == kH264 ? 4 : 21] & 3) + 1;
    while (end - at > length_size) {
      size_t size = 0;
      for (int i = 0; i < length_size; ++i) size = size << 8 | *at++;
      if (size > size_t(end - at)) break;
      add(at, size);
      at += size;
    }
    return slices;
  }
  const uint8_t* nal = nullptr;
  for (; at + 3 <= end; ++at) {
    if (at[0] || at[1] || at[2] != 1) continue;
    if (nal) {
      const uint8_t* last = at;
      while (last > nal && last[-1] == 0) --last;
      add(nal, size_t(last - nal));
    }
    nal = at + 3;
    at += 2;
  }
  if (nal) add(nal, size_t(end - nal));
  return slices;
}

std::shared_ptr<Picture> copy_of(const AVFrame& frame) {
  const AVPixFmtDescriptor* format = av_pix_fmt_desc_get(AVPixelFormat(frame.format));
  if (!format || format->nb_components < 3 || format->log2_chroma_w != 1 || format->log2_chroma_h != 1) return nullptr;
  auto picture = std::make_shared<Picture>();
  const int depth = format->comp[0].depth, bytes = depth > 8 ? 2 : 1;
  picture->width = frame.width, picture->height = frame.height, picture->bytes_per_sample = bytes;
  for (int p = 0; p < 3; ++p) {
    const int width = p ? (frame.width + 1) / 2 : frame.width, height = p ? (frame.height + 1) / 2 : frame.height;
    picture->planes[p].resize(size_t(width) * height * bytes);
    for (int y = 0; y < height; ++y) {
      const uint8_t* from = frame.data[p] + ptrdiff_t(y) * frame.linesize[p];
      uint8_t* to = &picture->planes[p][size_t(y) * width * bytes];
      std::memcpy(to, from, size_t(width) * bytes);
      for (int x = 0; bytes == 2 && x < width; ++x) {  // NVDEC keeps values in the upper bits
        uint16_t value;
        std::memcpy(&value, to + 2 * x, 2);
        value = uint16_t(value << (16 - depth));
        std::memcpy(to + 2 * x, &value, 2);
      }
    }
  }
  return picture;
}

}  // namespace

// Decodes the file's video in software and learns its pictures. Returns 0, or -1 if that cannot be.
extern "C" STUB_EXPORT int stub_add_video(const char* path) {
  AVFormatContext* format = nullptr;
  if (avformat_open_input(&format, path, nullptr, nullptr) < 0) return -1;
  avformat_find_stream_info(format, nullptr);
  const AVCodec* decoder = nullptr;
  const int stream = av_find_best_stream(format, AVMEDIA_TYPE_VIDEO, -1, -1, &decoder, 0);
  if (stream < 0) return -1;
  const AVCodecParameters& parameters = *format->streams[stream]->codecpar;
  const std::map<AVCodecID, int> codecs = {
      {AV_CODEC_ID_H264, kH264}, {AV_CODEC_ID_HEVC, kHevc}, {AV_CODEC_ID_VP8, kVp8}, {AV_CODEC_ID_VP9, kVp9}, {AV_CODEC_ID_AV1, kAv1}};
  const auto known_codec = codecs.find(parameters.codec_id);
  if (known_codec == codecs.end()) return -1;
  const int codec = known_codec->second;
  AVCodecContext* context = avcodec_alloc_context3(decoder);
  avcodec_parameters_to_context(context, &parameters);
  context->thread_count = 1;
  if (avcodec_open2(context, decoder, nullptr) < 0) return -1;
  context->flags |= AV_CODEC_FLAG_OUTPUT_CORRUPT;
  AVPacket* packet = av_packet_alloc();
  AVFrame* frame = av_frame_alloc();
  std::vector<std::pair<uint64_t, uint64_t>> keys;  // (hash, chain) of each packet
  Chain chain;
  const auto receive = [&] {
    while (avcodec_receive_frame(context, frame) >= 0) {
      const auto picture = copy_of(*frame);
      std::lock_guard<std::mutex> lock(mutex);
      if (picture && frame->pts >= 0 && size_t(frame->pts) < keys.size()) {
        known[keys[size_t(frame->pts)].first].push_back({keys[size_t(frame->pts)].second, picture});
      }
    }
  };
  while (av_read_frame(format, packet) >= 0) {
    if (packet->stream_index == stream) {
      const Slices slices = slices_of(codec, parameters, *packet);
      keys.emplace_back(slices.hash, slices.first ? chain.at(codec, slices.first, slices.hash) : 0);
      packet->pts = packet->dts = int64_t(keys.size()) - 1;
      packet->flags &= ~AV_PKT_FLAG_DISCARD;
      avcodec_send_packet(context, packet);
      receive();
    }
    av_packet_unref(packet);
  }
  avcodec_send_packet(context, nullptr);
  receive();
  av_frame_free(&frame);
  av_packet_free(&packet);
  avcodec_free_context(&context);
  avformat_close_input(&format);
  return 0;
}

// ---- the decoder ----

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
  std::vector<Output> outputs;
  size_t pitch = 0, bytes = 0;
  std::mutex mutex;
};

// What the tests say this NVDEC can do.
int max_width = 4096, max_height = 4096, min_width = 48, min_height = 16, max_macroblocks = 65536, num_engines = 1;
std::set<int> codecs_decoded = {kH264, kHevc, kVp9};

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
  if (parameters->is_second_field) return kSuccess;  // the first field has brought the whole picture
  const int codec = decoder->info.codec;
  const bool has_nals = codec == kH264 || codec == kHevc;
  const uint64_t slices =
      codec == kAv1 ? tiles_of(parameters->bytes, parameters->num_bytes).hash : hash(kHashStart, parameters->bytes, parameters->num_bytes);
  const uint64_t chain = decoder->chain.at(codec, parameters->bytes + (has_nals ? 3 : 0), slices);
  std::shared_ptr<Picture>& surface = decoder->surfaces[size_t(parameters->surface)];
  surface.reset();
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = known.find(slices);
  if (found == known.end()) {
    stub::count("unknown_pictures", 1);
    return kSuccess;
  }
  surface = found->second[0].picture;
  for (const Known& candidate : found->second) {
    if (candidate.chain == chain) surface = candidate.picture;
  }
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
STUB_API cuvidGetDecodeStatus(void*, int, DecodeStatus* status) {
  status->status = 2;  // success
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
