#include "decode/software_decoder.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <string>

#include "base/error.h"
#include "base/limits.h"
#include "index/packet_headers.h"
#include "picture/picture_of_frame.h"

namespace vidload {
namespace {

constexpr int kMaxDrainErrors = 64;  // no decoder holds back more pictures than this

double now_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Every picture begins black. See Note [A frame depends on its own file alone].
int get_black_buffer(AVCodecContext* context, AVFrame* frame, int flags) {
  const int code = avcodec_default_get_buffer2(context, frame, flags);
  if (code < 0) return code;
  for (const AVBufferRef* buffer : frame->buf) {
    if (buffer) std::memset(buffer->data, 0, size_t(buffer->size));
  }
  return code;
}

// These write every sample of a picture, or say that they could not.
bool must_blacken(AVCodecID codec) {
  switch (codec) {
    case AV_CODEC_ID_H264:
    case AV_CODEC_ID_VP8:
    case AV_CODEC_ID_VP9:
    case AV_CODEC_ID_AV1:
    case AV_CODEC_ID_MPEG4:
    case AV_CODEC_ID_MPEG1VIDEO:
    case AV_CODEC_ID_MPEG2VIDEO: return false;
    default: return true;
  }
}

// What a decoder is asked to find wrong; see Note [Damage].
int error_recognition(AVCodecID codec) {
  switch (codec) {
    case AV_CODEC_ID_HEVC:  // the hash of a picture, where it comes with one
    case AV_CODEC_ID_PNG:
    case AV_CODEC_ID_APNG: return AV_EF_EXPLODE | AV_EF_CRCCHECK;
    case AV_CODEC_ID_MJPEG: return AV_EF_EXPLODE;
    default: return 0;
  }
}

UniqueAVCodecContext open_context(const StreamInfo& stream, const std::string& path, bool is_strict) {
  const AVCodecDescriptor* descriptor = avcodec_descriptor_get_by_name(stream.codec.c_str());
  const AVCodec* codec = descriptor ? avcodec_find_decoder(descriptor->id) : nullptr;
  if (!codec) {
    throw VideoError(VideoErrorKind::unsupported, path, -1,
                     "no decoder for '" + stream.codec + "' in this FFmpeg; install an FFmpeg built with one");
  }
  const UniqueAVCodecParameters parameters = codec_parameters(stream);
  UniqueAVCodecContext context(avcodec_alloc_context3(codec));
  if (!context) throw std::bad_alloc();
  int code = avcodec_parameters_to_context(context.get(), parameters.get());
  if (code >= 0) {
    context->thread_count = 1;
    context->thread_type = FF_THREAD_SLICE;       // of frame threads FFmpeg before 6.0 warns, although one thread starts none
    context->max_pixels = video_limits().pixels;  // a stream may change its size on the way
    context->pkt_timebase = {1, 1};               // pts carries the packet's number, see Note [Packet numbers as pts]
    if (is_strict) context->err_recognition |= error_recognition(descriptor->id);
    if (must_blacken(descriptor->id)) context->get_buffer2 = get_black_buffer;
    context->flags |= AV_CODEC_FLAG_UNALIGNED;  // crop exactly as the stream says, not to aligned addresses
    code = avcodec_open2(context.get(), codec, nullptr);
  }
  throw_if_out_of_memory(code);
  if (code < 0) {
    throw VideoError(VideoErrorKind::unsupported, path, -1, "cannot open the '" + stream.codec + "' decoder (" + av_error_text(code) + ")",
                     code);
  }
  return context;
}

void check_cancelled(const Cancel* cancel, const std::string& path) {
  if (cancel && cancel->is_set()) throw VideoError(VideoErrorKind::cancelled, path, -1, "cancelled");
}

// See Note [Packet numbers as pts].
void set_number(AVPacket* packet, int64_t number) {
  packet->pts = number;
  packet->dts = AV_NOPTS_VALUE;
  packet->flags &= ~AV_PKT_FLAG_DISCARD;  // what is shown is decided elsewhere
}

class SoftwarePicture final : public DecodedPicture {
 public:
  SoftwarePicture(const AVFrame& frame, PixelConverter& converter, const PacketReader& reader)
      : frame_(frame), converter_(converter), reader_(reader) {}
  const AVFrame& frame() const override { return frame_; }
  PictureView view() const override {
    const std::string& path = reader_.name();
    return picture_of_frame(converter_.converted(frame_, path), reader_.index().stream, path);
  }

 private:
  const AVFrame& frame_;
  PixelConverter& converter_;
  const PacketReader& reader_;
};

}  // namespace

SoftwareDecoder::SoftwareDecoder(const StreamInfo& stream, const std::string& path, bool allow_damaged)
    : context_(open_context(stream, path, !allow_damaged)),
      packet_(av_packet_alloc()),
      frame_(av_frame_alloc()),
      stream_(stream),
      allow_damaged_(allow_damaged),
      nal_length_size_(vidload::nal_length_size(stream)),
      lost_pictures_(stream) {
  if (!packet_ || !frame_) throw std::bad_alloc();
  // H.264 holds back what was decoded since a keyframe that is no IDR until it is shown to be right; the plan knows that it is.
  context_->flags |= AV_CODEC_FLAG_OUTPUT_CORRUPT;
}

bool SoftwareDecoder::fits(const StreamInfo& stream) const {
  return have_same_parameters(stream_, stream) && stream_.inband_headers == stream.inband_headers;
}

void SoftwareDecoder::note_damage(int32_t packet, int code) {
  if (damaged_packet_ >= 0 && damaged_packet_ <= packet) return;
  damaged_packet_ = packet;
  damage_code_ = code;
}

void SoftwareDecoder::note_mismatch(int32_t packet, const char* what) {
  if (mismatch_.empty()) mismatch_ = "the frame of packet " + std::to_string(packet) + " " + what;
}

// Takes what the decoder has ready. With `drain`, all it still holds. Returns an FFmpeg code: EAGAIN and EOF are the normal ends.
int SoftwareDecoder::receive(bool drain, const Span& span, const PacketReader& reader, const PictureSink& sink, DecodeTimes& times) {
  const PacketIndex& index = reader.index();
  const int32_t start = span.packets.front();
  const bool starts_at_keyframe = index.flags[size_t(start)] & kKeyframe;
  int num_errors = 0;
  while (true) {
    const double before = now_seconds();
    const int code = avcodec_receive_frame(context_.get(), frame_.get());
    times.decode_seconds += now_seconds() - before;
    if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return code;
    throw_if_out_of_memory(code);
    if (code < 0) {
      // While draining, a damaged picture must not hide the ones after it; the end normally comes as EOF.
      if (!drain || ++num_errors > kMaxDrainErrors) return code;
      continue;
    }
    const int32_t packet = frame_->pts == AV_NOPTS_VALUE ? -1 : int32_t(frame_->pts);
    const auto sent = std::lower_bound(span.packets.begin(), span.packets.end(), packet);
    if (sent == span.packets.end() || *sent != packet) {
      note_mismatch(packet, "came out, which was not sent");
      av_frame_unref(frame_.get());
      continue;
    }
    const bool is_lead = is_leading(index, start, packet);
    if (is_damaged(*frame_, context_->codec_id) && !is_lead) note_damage(packet, AVERROR_INVALIDDATA);
    const uint8_t flags = index.flags[size_t(packet)];
    if (flags & kHidden) {
      // Without a keyframe the decoder, told to give all, gives pictures too that a decode of the whole stream withholds.
      if (starts_at_keyframe && !is_lead) note_mismatch(packet, "was not expected");
    } else if (!(flags & kDiscard) && !is_lead) {
      if (index.pts[size_t(packet)] <= last_pts_) note_mismatch(packet, "came out of order");
      last_pts_ = index.pts[size_t(packet)];
    }
    is_delivered_[size_t(sent - span.packets.begin())] = true;
    const auto found = std::lower_bound(span.wanted.begin(), span.wanted.end(), packet,
                                        [](const WantedFrame& wanted, int32_t value) { return wanted.packet < value; });
    const SoftwarePicture picture(*frame_, converter_, reader);
    for (auto wanted = found; wanted != span.wanted.end() && wanted->packet == packet; ++wanted) sink(*wanted, picture);
    av_frame_unref(frame_.get());
  }
}

void SoftwareDecoder::run(const Span& span, PacketReader& reader, const PictureSink& sink, DecodeTimes& times, const Cancel* cancel) {
  if (span.packets.empty() || run_once(span, reader, sink, times, cancel)) return;
  Span whole = span;
  whole.packets.resize(size_t(span.packets.back() - span.packets.front()) + 1);
  std::iota(whole.packets.begin(), whole.packets.end(), span.packets.front());
  run_once(whole, reader, sink, times, cancel);
}

// False where pictures seem to be lost, and packets passed over may be the cause.
bool SoftwareDecoder::run_once(const Span& span, PacketReader& reader, const PictureSink& sink, DecodeTimes& times, const Cancel* cancel) {
  const PacketIndex& index = reader.index();
  const std::string& path = reader.name();
  if (!is_clean_) {
    // Flushing does not clear every decoder's pictures: see Note [A frame depends on its own file alone].
    const bool may_be_used_again = stream_.inband_headers != int(InbandHeaders::differing);
    if (may_be_used_again && index.is_regular && (index.flags[size_t(span.packets.front())] & kKeyframe)) {
      avcodec_flush_buffers(context_.get());
    } else {
      context_ = open_context(stream_, path, !allow_damaged_);
      context_->flags |= AV_CODEC_FLAG_OUTPUT_CORRUPT;
    }
  }
  is_clean_ = false;
  damaged_packet_ = -1;
  damage_code_ = 0;
  mismatch_.clear();
  last_pts_ = INT64_MIN;
  is_delivered_.assign(span.packets.size(), false);
  const int32_t start = span.packets.front();

  reader.begin(span.packets);
  lost_pictures_.begin(start);
  for (size_t i = 0; i < span.packets.size(); ++i) {
    check_cancelled(cancel, path);
    const int32_t number = span.packets[i];
    const bool is_lead = is_leading(index, start, number);
    double before = now_seconds();
    reader.read(i, packet_.get());
    times.read_seconds += now_seconds() - before;
    if (nal_length_size_ >= 0 && !is_lead && has_forbidden_bytes(packet_->data, packet_->size, nal_length_size_)) {
      note_damage(number, AVERROR_INVALIDDATA);
    }
    if ((index.flags[size_t(number)] & kDamaged) && !is_lead) note_damage(number, AVERROR_INVALIDDATA);
    set_number(packet_.get(), number);
    lost_pictures_.watch(packet_->data, packet_->size);
    before = now_seconds();
    int code = avcodec_send_packet(context_.get(), packet_.get());
    times.decode_seconds += now_seconds() - before;
    av_packet_unref(packet_.get());
    throw_if_out_of_memory(code);
    if (code == AVERROR(EAGAIN)) code = AVERROR_BUG;  // cannot be: everything was received before
    if (code < 0 && !is_lead) note_damage(number, code);
    code = receive(false, span, reader, sink, times);
    if (code != AVERROR(EAGAIN) && code != AVERROR_EOF && !is_lead) note_damage(number, code);
    if (lost_pictures_.were_before(number, index.flags[size_t(number)] & kKeyframe) && !is_lead) {
      if (number - start != int32_t(i)) return false;
      note_damage(number, AVERROR_INVALIDDATA);
    }
  }
  double before = now_seconds();
  avcodec_send_packet(context_.get(), nullptr);
  times.decode_seconds += now_seconds() - before;
  receive(true, span, reader, sink, times);
  check(index, span, path);
  return true;
}

// Throws where what came out is not what the index promised, or is damaged.
void SoftwareDecoder::check(const PacketIndex& index, const Span& span, const std::string& path) const {
  const int32_t start = span.packets.front();
  const auto is_missing = [&](size_t position) {
    const int32_t packet = span.packets[position];
    return !is_delivered_[position] && !(index.flags[size_t(packet)] & kHidden) && !is_leading(index, start, packet);
  };
  if (index.is_regular) {
    std::string contradiction = mismatch_;
    for (size_t i = 0; contradiction.empty() && i < span.packets.size(); ++i) {
      if (is_missing(i)) contradiction = "no frame came out of packet " + std::to_string(span.packets[i]);
    }
    if (!contradiction.empty()) {
      throw VideoError(VideoErrorKind::index_mismatch, path, -1, "does not decode as its packets say: " + contradiction, damage_code_);
    }
  }
  for (const WantedFrame& wanted : span.wanted) {
    const auto position = size_t(std::lower_bound(span.packets.begin(), span.packets.end(), wanted.packet) - span.packets.begin());
    const bool depends_on_damage = damaged_packet_ >= 0 && wanted.packet >= damaged_packet_;
    const bool is_untrusted = index.flags[size_t(wanted.packet)] & kUntrusted;
    if (is_delivered_[position] && (allow_damaged_ || (!depends_on_damage && !is_untrusted))) continue;
    std::string reason = "cannot be decoded: ";
    if (depends_on_damage) {
      reason += "packet " + std::to_string(damaged_packet_) + " is damaged (" + av_error_text(damage_code_) + ")";
    } else if (is_untrusted) {
      reason += "it was predicted from pictures before the first keyframe, which are not in the file";
    } else {
      reason += "the decoder returned no frame for packet " + std::to_string(wanted.packet);
    }
    reason += "; leave the file out, or replace it with an intact copy";
    throw VideoError(VideoErrorKind::damaged, path, wanted.frame, reason, damage_code_);
  }
}

// Takes the facts, and ends the decoder's work.
static int take_facts_of_buffer(AVCodecContext* context, AVFrame* frame, int) {
  auto* stream = static_cast<StreamInfo*>(context->opaque);
  if (!stream) return AVERROR_EXIT;  // they are taken
  take_picture_facts(*frame, *stream);
  stream->coded_width = context->width;  // the frame's own are those of the memory, which may be more
  stream->coded_height = context->height;
  context->opaque = nullptr;
  return AVERROR_EXIT;
}

bool read_picture_facts(PacketReader& reader, const std::vector<int32_t>& packets, StreamInfo& stream) {
  if (stream.codec == "av1") return false;
  constexpr int kSilent = 64;  // beyond every level of the log: that there was no memory is no news
  const UniqueAVCodecContext context = open_context(stream, reader.name(), false);
  const UniqueAVPacket packet(av_packet_alloc());
  if (!packet) throw std::bad_alloc();
  context->opaque = &stream;
  context->get_buffer2 = take_facts_of_buffer;
  context->log_level_offset = kSilent;
  reader.begin(packets);
  for (size_t i = 0; i < packets.size() && context->opaque; ++i) {
    reader.read(i, packet.get());
    set_number(packet.get(), packets[i]);
    throw_if_out_of_memory(avcodec_send_packet(context.get(), packet.get()));
    av_packet_unref(packet.get());
  }
  return !context->opaque;
}

void decode_all(const PacketIndex& index, const ByteSource& source, const Cancel* cancel,
                const std::function<void(int32_t packet, const AVFrame& picture)>& each) {
  UniqueAVCodecContext context = open_context(index.stream, source.name(), false);
  UniqueAVPacket packet(av_packet_alloc());
  UniqueAVFrame frame(av_frame_alloc());
  if (!packet || !frame) throw std::bad_alloc();
  std::vector<int32_t> packets(size_t(index.num_packets()));
  for (size_t i = 0; i < packets.size(); ++i) packets[i] = int32_t(i);
  PacketReader reader(source, index, cancel);
  reader.begin(packets);
  int num_errors = 0;
  for (size_t i = 0; i <= packets.size(); ++i) {
    check_cancelled(cancel, source.name());
    const bool is_end = i == packets.size();
    if (!is_end) {
      reader.read(i, packet.get());
      set_number(packet.get(), int64_t(i));
    }
    throw_if_out_of_memory(avcodec_send_packet(context.get(), is_end ? nullptr : packet.get()));
    av_packet_unref(packet.get());
    while (true) {
      const int code = avcodec_receive_frame(context.get(), frame.get());
      if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) break;
      throw_if_out_of_memory(code);
      if (code < 0 && (!is_end || ++num_errors > kMaxDrainErrors)) break;
      if (code < 0) continue;
      if (frame->pts >= 0 && frame->pts < int64_t(packets.size())) each(int32_t(frame->pts), *frame);
      av_frame_unref(frame.get());
    }
  }
}

// Note [Packet numbers as pts]
// A frame must be matched with the packet it came from. The container's timestamps cannot be trusted for that (they may be missing or
// equal), so each packet is sent with its number in decode order as its pts. Every decoder of libavcodec hands the pts of a packet on to
// its frame, in every version; reordered_opaque and copy_opaque, made for this, come and go with versions. No decoder uses the values:
// presentation order comes from the bitstream.

// Note [A frame depends on its own file alone]
// A decoder is used again for other spans and other files. Flushing it takes its pictures out of use, but their memory goes to the
// pictures that follow, and some decoders keep a reference besides. A stream that begins without a keyframe, or a picture of which parts
// are missing, then shows what was decoded before. So a span that does not begin at a keyframe that the codec's own header vouches for, or
// is of a stream with headers in its packets that a flush does not take back (Note [Headers in packets]), is decoded by a new decoder; and
// where a decoder may leave samples unwritten without a word, the memory of each picture is cleared first, as that of a new decoder is.

// Note [Damage]
// What is wrong with a packet is seen by errors that the decoder returns, by AVFrame::decode_error_flags, and by frames that are missing.
// H.264, MPEG-1, 2 and 4 and their kin conceal and say so. FFV1 conceals what fails its checksum and does not, so the index has looked
// (kDamaged); PNG looks at its own only when asked. MJPEG goes on silently unless AV_EF_EXPLODE asks it not to, and HEVC checks a
// picture's hash only when asked. Neither raised a false alarm on an intact file; for H.264 it does, at leading pictures of an open GOP.
// Note [Forbidden bytes] and Note [Lost pictures] have checks of our own. What remains unseen is measured in docs/frames.md.

}  // namespace vidload
