// known_pictures: the pictures of files, decoded in software, found again by what NVDEC is given of them. A part of nvcuvid_stub.cpp.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/pixdesc.h>
}

#include "index/bit_reader.h"
#include "stub.h"

namespace {

enum Codec { kH264 = 4, kHevc = 8, kVp8 = 9, kVp9 = 10, kAv1 = 11 };  // cudaVideoCodec's numbers

struct Picture {
  int width = 0, height = 0, bytes_per_sample = 1;
  std::vector<uint8_t> planes[3];
  bool operator==(const Picture& other) const {
    return width == other.width && height == other.height && std::equal(planes, planes + 3, other.planes);
  }
};

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

// A coded picture (a field, where fields are coded apart) as a file holds it.
struct Coded {
  uint64_t key = kHashStart;   // of its slices or bytes; AV1: its order hint
  uint64_t chain = 0;          // H.264, HEVC
  std::vector<uint8_t> bytes;  // AV1: NVDEC is given the end of them, without the header before the tiles
  int refreshed = 0;           // VP9, AV1: the reference slots that hold it from then on
  bool is_shown = true;
};

struct Known {
  Coded coded;
  std::shared_ptr<Picture> picture;
};
std::mutex known_mutex;
std::unordered_map<uint64_t, std::vector<Known>> known;  // by key

// The picture of slices (H.264, HEVC), a frame (VP8, VP9) or tiles (AV1) that NVDEC is given. Null where no file has it, or several
// that differ.
std::shared_ptr<Picture> find_picture(uint64_t key, uint64_t chain, const uint8_t* tiles, size_t size) {
  std::lock_guard<std::mutex> lock(known_mutex);
  std::vector<const Known*> found;
  for (const Known& candidate : known[key]) {
    const std::vector<uint8_t>& bytes = candidate.coded.bytes;
    if (tiles && (bytes.size() < size || std::memcmp(bytes.data() + bytes.size() - size, tiles, size) != 0)) continue;
    found.push_back(&candidate);
  }
  for (const Known* candidate : found) {
    if (!tiles && candidate->coded.chain == chain) return candidate->picture;
  }
  const auto differs = [&](const Known* candidate) { return !(*candidate->picture == *found[0]->picture); };
  if (found.empty() || std::any_of(found.begin(), found.end(), differs)) return nullptr;
  return found[0]->picture;
}

// The coded pictures of one file's packets, and which of them each packet shows.
class PacketPictures {
 public:
  PacketPictures(int codec, const AVCodecParameters& parameters) : codec_(codec), parameters_(parameters) {
    if (codec == kAv1 && parameters.extradata_size > 4) add_av1(parameters.extradata + 4, size_t(parameters.extradata_size - 4));
    slots_.fill(-1);
  }
  void add(const AVPacket& packet) {
    shown_.emplace_back();
    const auto size = size_t(packet.size);
    if (codec_ == kH264 || codec_ == kHevc) add_nals(packet.data, size);
    if (codec_ == kVp8) add_vpx(packet.data, size, 0, packet.data[0] >> 4 & 1);
    if (codec_ == kVp9) add_vp9(packet.data, size);
    if (codec_ == kAv1) add_av1(packet.data, size);
  }
  int64_t num_packets() const { return int64_t(shown_.size()); }
  // The picture that came out for a packet.
  void learn(int64_t packet, const std::shared_ptr<Picture>& picture) {
    std::lock_guard<std::mutex> lock(known_mutex);
    for (const int number : shown_[size_t(packet)]) {
      if (number < 0) continue;
      Coded& coded = coded_[size_t(number)];
      coded.is_shown = true;
      known[coded.key].push_back({coded, picture});
    }
  }
  // Of those that no packet shows, nobody can tell what they look like: an empty picture.
  void learn_hidden() {
    std::lock_guard<std::mutex> lock(known_mutex);
    for (const Coded& coded : coded_) {
      if (!coded.is_shown) known[coded.key].push_back({coded, std::make_shared<Picture>()});
    }
  }

 private:
  void add_coded(Coded coded) {
    const int number = int(coded_.size());
    for (int i = 0; i < 8; ++i) {
      if (coded.refreshed >> i & 1) slots_[size_t(i)] = number;
    }
    if (coded.is_shown) shown_.back().push_back(number);
    coded_.push_back(std::move(coded));
  }
  void show_slot(uint32_t slot) { shown_.back().push_back(slots_[slot]); }

  // Slices as FFmpeg hands them to NVDEC: 00 00 01 and the NAL unit, one after the other.
  void add_nal(const uint8_t* nal, size_t size) {
    if (size < 3) return;
    const int type = codec_ == kH264 ? nal[0] & 31 : nal[0] >> 1 & 63;
    if (codec_ == kH264 ? type != 1 && type != 5 : type >= 32) return;
    const bool is_first = codec_ == kH264 ? nal[1] & 0x80 : nal[2] & 0x80;  // of a frame or field
    if (is_first || shown_.back().empty()) {
      end_picture();
      first_slice_ = nal;
      add_coded({});
    }
    const uint8_t start_code[3] = {0, 0, 1};
    coded_.back().key = hash(hash(coded_.back().key, start_code, 3), nal, size);
  }
  void end_picture() {
    if (first_slice_) coded_.back().chain = chain_.at(codec_, first_slice_, coded_.back().key);
    first_slice_ = nullptr;
  }
  void add_nals(const uint8_t* at, size_t size) {
    const uint8_t* end = at + size;
    if (parameters_.extradata_size > 6 && parameters_.extradata[0] == 1) {
      const int length_size = (parameters_.extradata[codec_ == kH264 ? 4 : 21] & 3) + 1;
      while (end - at > length_size) {
        size_t length = 0;
        for (int i = 0; i < length_size; ++i) length = length << 8 | *at++;
        if (length > size_t(end - at)) break;
        add_nal(at, length);
        at += length;
      }
      return end_picture();
    }
    const uint8_t* nal = nullptr;
    for (; at + 3 <= end; ++at) {
      if (at[0] || at[1] || at[2] != 1) continue;
      if (nal) {
        const uint8_t* last = at;
        while (last > nal && last[-1] == 0) --last;
        add_nal(nal, size_t(last - nal));
      }
      nal = at + 3;
      at += 2;
    }
    if (nal) add_nal(nal, size_t(end - nal));
    end_picture();
  }

  void add_vpx(const uint8_t* data, size_t size, int refreshed, bool is_shown) {
    Coded coded;
    coded.key = hash(kHashStart, data, size);
    coded.refreshed = refreshed;
    coded.is_shown = is_shown;
    add_coded(std::move(coded));
  }
  // VP9 specification, 6.2; a superframe (annex B) holds several frames.
  void add_vp9_frame(const uint8_t* data, size_t size) {
    vidload::BitReader bits(data, int(size));
    bits.bits(2);
    const uint32_t profile = bits.bits(1) + 2 * bits.bits(1);
    if (profile == 3) bits.bits(1);
    if (bits.flag()) return show_slot(bits.bits(3));  // show_existing_frame
    const bool is_key = !bits.flag(), is_shown = bits.flag(), is_resilient = bits.flag();
    if (is_key) return add_vpx(data, size, 255, is_shown);
    const bool is_intra = !is_shown && bits.flag();
    if (!is_resilient) bits.bits(2);
    if (is_intra) bits.bits(24);  // and a color config, in profiles that NVDEC does not have
    add_vpx(data, size, int(bits.bits(8)), is_shown);
  }
  void add_vp9(const uint8_t* data, size_t size) {
    const uint8_t marker = data[size - 1];
    const size_t num_frames = size_t(marker & 7) + 1, num_bytes = size_t(marker >> 3 & 3) + 1, index = 2 + num_bytes * num_frames;
    if ((marker & 0xe0) != 0xc0 || size < index || data[size - index] != marker) return add_vp9_frame(data, size);
    const uint8_t* entry = data + size - index + 1;
    for (size_t i = 0; i < num_frames; ++i, entry += num_bytes) {
      size_t length = 0;
      for (size_t k = 0; k < num_bytes; ++k) length |= size_t(entry[k]) << (8 * k);
      if (length > 0) add_vp9_frame(data, length);
      data += length;
    }
  }

  // AV1 specification, 5.5, as encoders here write it: without timing, decoder models and reduced still pictures.
  void read_av1_sequence(const uint8_t* data, size_t size) {
    vidload::BitReader bits(data, int(size));
    bits.bits(6);
    const bool has_delay = bits.flag();
    for (int points = int(bits.bits(5)) + 1; points > 0; --points) {
      bits.bits(12);
      if (bits.bits(5) > 7) bits.bits(1);
      if (has_delay && bits.flag()) bits.bits(4);
    }
    const int width_bits = int(bits.bits(4)) + 1, height_bits = int(bits.bits(4)) + 1;
    bits.bits(width_bits), bits.bits(height_bits);
    bits.bits(1 + 3 + 4);  // no frame ids
    const bool has_order = bits.flag();
    if (has_order) bits.bits(2);
    screen_content_ = bits.flag() ? 2 : bits.bits(1);
    integer_mv_ = screen_content_ == 0 || bits.flag() ? 2 : bits.bits(1);
    order_bits_ = has_order ? int(bits.bits(3)) + 1 : 0;
  }
  // 5.9.2, as far as refresh_frame_flags.
  void add_av1_frame(const uint8_t* data, size_t size) {
    vidload::BitReader bits(data, int(size));
    if (bits.flag()) return show_slot(bits.bits(3));  // show_existing_frame
    const uint32_t type = bits.bits(2);
    Coded coded;
    coded.is_shown = bits.flag();
    if (!coded.is_shown) bits.bits(1);
    const bool is_switch = type == 3, is_shown_key = type == 0 && coded.is_shown;
    const bool is_resilient = is_switch || is_shown_key || bits.flag();
    bits.bits(1);
    const bool is_screen = screen_content_ == 2 ? bits.flag() : screen_content_ == 1;
    if (is_screen && integer_mv_ == 2) bits.bits(1);
    if (!is_switch) bits.bits(1);
    coded.key = bits.bits(order_bits_);
    if (type != 0 && type != 2 && !is_resilient) bits.bits(3);
    coded.refreshed = is_switch || is_shown_key ? 255 : int(bits.bits(8));
    coded.bytes.assign(data, data + size);
    add_coded(std::move(coded));
  }
  void add_av1(const uint8_t* at, size_t size) {
    const uint8_t* end = at + size;
    while (at < end) {
      const int type = *at >> 3 & 15;
      const bool has_extension = *at & 4, has_size = *at & 2;
      at += has_extension ? 2 : 1;
      size_t length = size_t(end - at);
      if (has_size) {
        length = 0;
        for (int shift = 0; at < end; shift += 7) {
          const uint8_t byte = *at++;
          length |= size_t(byte & 127) << shift;
          if (!(byte & 128)) break;
        }
      }
      length = std::min(length, size_t(end - at));
      if (type == 1) read_av1_sequence(at, length);
      if (type == 3 || type == 6) add_av1_frame(at, length);  // a frame's header, a frame
      if (type == 4 && !coded_.empty()) coded_.back().bytes.assign(at, at + length);
      at += length;
    }
  }

  const int codec_;
  const AVCodecParameters& parameters_;
  std::vector<Coded> coded_;
  std::vector<std::vector<int>> shown_;  // of each packet: which of coded_; -1: one that is not there
  std::array<int, 8> slots_;             // VP9, AV1: of each reference, which of coded_
  Chain chain_;
  const uint8_t* first_slice_ = nullptr;
  uint32_t screen_content_ = 2, integer_mv_ = 2;
  int order_bits_ = 0;
};

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

// The picture with the lines of one field only; the others are `rest`'s, or gray.
std::shared_ptr<Picture> with_field(const std::shared_ptr<Picture>& picture, bool is_bottom, const std::shared_ptr<Picture>& rest) {
  auto mixed = std::make_shared<Picture>(*picture);
  for (int p = 0; p < 3; ++p) {
    const size_t height = p ? (size_t(picture->height) + 1) / 2 : size_t(picture->height), row = picture->planes[p].size() / height;
    for (size_t y = !is_bottom; y < height; y += 2) {
      uint8_t* to = &mixed->planes[p][y * row];
      if (rest && rest->planes[p].size() == mixed->planes[p].size())
        std::memcpy(to, &rest->planes[p][y * row], row);
      else
        std::memset(to, 0x55, row);
    }
  }
  return mixed;
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
  const auto codec = codecs.find(parameters.codec_id);
  if (codec == codecs.end()) return -1;
  AVCodecContext* context = avcodec_alloc_context3(decoder);
  avcodec_parameters_to_context(context, &parameters);
  context->thread_count = 1;
  if (avcodec_open2(context, decoder, nullptr) < 0) return -1;
  context->flags |= AV_CODEC_FLAG_OUTPUT_CORRUPT;
  AVPacket* packet = av_packet_alloc();
  AVFrame* frame = av_frame_alloc();
  PacketPictures pictures(codec->second, parameters);
  const auto receive = [&] {
    while (avcodec_receive_frame(context, frame) >= 0) {
      const auto picture = copy_of(*frame);
      if (picture && frame->pts >= 0 && frame->pts < pictures.num_packets()) pictures.learn(frame->pts, picture);
    }
  };
  while (av_read_frame(format, packet) >= 0) {
    if (packet->stream_index == stream) {
      pictures.add(*packet);
      packet->pts = packet->dts = pictures.num_packets() - 1;
      packet->flags &= ~AV_PKT_FLAG_DISCARD;
      avcodec_send_packet(context, packet);
      receive();
    }
    av_packet_unref(packet);
  }
  avcodec_send_packet(context, nullptr);
  receive();
  pictures.learn_hidden();
  av_frame_free(&frame);
  av_packet_free(&packet);
  avcodec_free_context(&context);
  avformat_close_input(&format);
  return 0;
}
