#include "decode/decoder.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/error.h"

namespace vidload {
namespace {

constexpr int kMaxDrainErrors = 64;  // no decoder holds back more pictures than this

double now_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

UniqueAVCodecContext open_context(const StreamInfo& stream, const std::string& path) {
  const AVCodecDescriptor* descriptor = avcodec_descriptor_get_by_name(stream.codec.c_str());
  const AVCodec* codec = descriptor ? avcodec_find_decoder(descriptor->id) : nullptr;
  if (!codec) {
    throw VideoError(VideoErrorKind::unsupported, path, -1,
                     "no decoder for '" + stream.codec + "' in this FFmpeg; install an FFmpeg built with one");
  }
  UniqueAVCodecParameters parameters(avcodec_parameters_alloc());
  UniqueAVCodecContext context(avcodec_alloc_context3(codec));
  if (!parameters || !context) throw std::bad_alloc();
  parameters->codec_type = AVMEDIA_TYPE_VIDEO;
  parameters->codec_id = descriptor->id;
  parameters->codec_tag = uint32_t(stream.codec_tag);
  parameters->format = stream.format;
  parameters->profile = stream.profile;
  parameters->level = stream.level;
  parameters->width = stream.coded_width;
  parameters->height = stream.coded_height;
  parameters->bits_per_coded_sample = stream.bits_per_coded_sample;
  parameters->color_primaries = AVColorPrimaries(stream.color_primaries);
  parameters->color_trc = AVColorTransferCharacteristic(stream.color_transfer);
  parameters->color_space = AVColorSpace(stream.color_space);
  parameters->color_range = AVColorRange(stream.color_range);
  parameters->chroma_location = AVChromaLocation(stream.chroma_location);
  parameters->field_order = AVFieldOrder(stream.field_order);
  parameters->video_delay = stream.reorder_depth;  // so that H.264 streams that do not state it lose no frame at the start
  if (!stream.extradata.empty()) {
    parameters->extradata = static_cast<uint8_t*>(av_mallocz(stream.extradata.size() + AV_INPUT_BUFFER_PADDING_SIZE));
    if (!parameters->extradata) throw std::bad_alloc();
    std::memcpy(parameters->extradata, stream.extradata.data(), stream.extradata.size());
    parameters->extradata_size = int(stream.extradata.size());
  }
  int code = avcodec_parameters_to_context(context.get(), parameters.get());
  if (code >= 0) {
    context->thread_count = 1;
    context->pkt_timebase = {1, 1};             // pts carries the packet's number, see Note [Packet numbers as pts]
    context->flags |= AV_CODEC_FLAG_UNALIGNED;  // crop exactly as the stream says, not to aligned addresses
    code = avcodec_open2(context.get(), codec, nullptr);
  }
  if (code < 0) {
    throw VideoError(VideoErrorKind::unsupported, path, -1, "cannot open the '" + stream.codec + "' decoder (" + av_error_text(code) + ")",
                     code);
  }
  return context;
}

}  // namespace

Decoder::Decoder(const StreamInfo& stream, const std::string& path)
    : context_(open_context(stream, path)), packet_(av_packet_alloc()), frame_(av_frame_alloc()), stream_(stream) {
  if (!packet_ || !frame_) throw std::bad_alloc();
  // H.264 holds back what was decoded since a keyframe that is no IDR until it is shown to be right; the plan knows that it is.
  context_->flags |= AV_CODEC_FLAG_OUTPUT_CORRUPT;
}

bool Decoder::fits(const StreamInfo& stream) const {
  const StreamInfo &a = stream_, &b = stream;
  return a.codec == b.codec && a.codec_tag == b.codec_tag && a.extradata == b.extradata && a.format == b.format &&
         a.coded_width == b.coded_width && a.coded_height == b.coded_height && a.profile == b.profile && a.level == b.level &&
         a.bits_per_coded_sample == b.bits_per_coded_sample && a.color_primaries == b.color_primaries &&
         a.color_transfer == b.color_transfer && a.color_space == b.color_space && a.color_range == b.color_range &&
         a.chroma_location == b.chroma_location && a.field_order == b.field_order && a.reorder_depth == b.reorder_depth;
}

void Decoder::note_damage(int32_t packet, int code) {
  if (damaged_packet_ >= 0 && damaged_packet_ <= packet) return;
  damaged_packet_ = packet;
  damage_code_ = code;
}

// Takes what the decoder has ready. With `drain`, all it still holds. Returns an FFmpeg code: EAGAIN and EOF are the normal ends.
int Decoder::receive(bool drain, const Span& span, const FrameSink& sink, DecodeTimes& times) {
  int num_errors = 0;
  while (true) {
    const double before = now_seconds();
    const int code = avcodec_receive_frame(context_.get(), frame_.get());
    times.decode_seconds += now_seconds() - before;
    if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return code;
    if (code < 0) {
      // While draining, a damaged picture must not hide the ones after it; the end normally comes as EOF.
      if (!drain || ++num_errors > kMaxDrainErrors) return code;
      continue;
    }
    const int32_t packet = frame_->pts == AV_NOPTS_VALUE ? -1 : int32_t(frame_->pts);
    // AV_FRAME_FLAG_CORRUPT is not asked: H.264 sets it on every picture drained after an open GOP's keyframe, also on right ones.
    if (frame_->decode_error_flags && packet >= span.first_trusted) note_damage(packet, AVERROR_INVALIDDATA);
    const auto found = std::lower_bound(span.wanted.begin(), span.wanted.end(), packet,
                                        [](const WantedFrame& wanted, int32_t value) { return wanted.packet < value; });
    if (found != span.wanted.end() && found->packet == packet) {
      is_delivered_[size_t(found - span.wanted.begin())] = true;
      sink(*found, *frame_);
    }
    av_frame_unref(frame_.get());
  }
}

void Decoder::run(const Span& span, PacketReader& reader, const FrameSink& sink, DecodeTimes& times, const std::atomic<bool>* cancelled) {
  if (!is_clean_) avcodec_flush_buffers(context_.get());
  is_clean_ = false;
  damaged_packet_ = -1;
  damage_code_ = 0;
  is_delivered_.assign(span.wanted.size(), false);

  reader.begin(span.packets);
  for (size_t i = 0; i < span.packets.size(); ++i) {
    if (cancelled && cancelled->load(std::memory_order_relaxed)) {
      throw VideoError(VideoErrorKind::cancelled, reader.name(), -1, "cancelled");
    }
    const int32_t number = span.packets[i];
    double before = now_seconds();
    reader.read(i, packet_.get());
    times.read_seconds += now_seconds() - before;
    packet_->pts = number;
    packet_->dts = AV_NOPTS_VALUE;
    packet_->flags &= ~AV_PKT_FLAG_DISCARD;  // the plan decides what is shown
    before = now_seconds();
    int code = avcodec_send_packet(context_.get(), packet_.get());
    times.decode_seconds += now_seconds() - before;
    av_packet_unref(packet_.get());
    if (code == AVERROR(EAGAIN)) code = AVERROR_BUG;  // cannot be: everything was received before
    if (code < 0 && number >= span.first_trusted) note_damage(number, code);
    code = receive(false, span, sink, times);
    if (code != AVERROR(EAGAIN) && code != AVERROR_EOF && number >= span.first_trusted) note_damage(number, code);
  }
  double before = now_seconds();
  avcodec_send_packet(context_.get(), nullptr);
  times.decode_seconds += now_seconds() - before;
  receive(true, span, sink, times);

  for (size_t i = 0; i < span.wanted.size(); ++i) {
    const WantedFrame& wanted = span.wanted[i];
    const bool depends_on_damage = damaged_packet_ >= 0 && wanted.packet >= damaged_packet_;
    if (is_delivered_[i] && !depends_on_damage) continue;
    std::string reason = "cannot be decoded: ";
    if (depends_on_damage) {
      reason += "packet " + std::to_string(damaged_packet_) + " is damaged (" + av_error_text(damage_code_) + ")";
    } else {
      reason += "the decoder gave no frame for packet " + std::to_string(wanted.packet);
    }
    reason += "; leave the file out, or replace it by an intact copy";
    throw VideoError(VideoErrorKind::damaged, reader.name(), wanted.frame, reason, damage_code_);
  }
}

void decode_all(const PacketIndex& index, const ByteSource& source,
                const std::function<void(int32_t packet, const AVFrame& picture)>& each) {
  UniqueAVCodecContext context = open_context(index.stream, source.name());
  UniqueAVPacket packet(av_packet_alloc());
  UniqueAVFrame frame(av_frame_alloc());
  if (!packet || !frame) throw std::bad_alloc();
  std::vector<int32_t> packets(size_t(index.num_packets()));
  for (size_t i = 0; i < packets.size(); ++i) packets[i] = int32_t(i);
  PacketReader reader(source, index);
  reader.begin(packets);
  int num_errors = 0;
  for (size_t i = 0; i <= packets.size(); ++i) {
    const bool is_end = i == packets.size();
    if (!is_end) {
      reader.read(i, packet.get());
      packet->pts = int64_t(i);
      packet->dts = AV_NOPTS_VALUE;
      packet->flags &= ~AV_PKT_FLAG_DISCARD;
    }
    avcodec_send_packet(context.get(), is_end ? nullptr : packet.get());
    av_packet_unref(packet.get());
    while (true) {
      const int code = avcodec_receive_frame(context.get(), frame.get());
      if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) break;
      if (code < 0 && (!is_end || ++num_errors > kMaxDrainErrors)) break;
      if (code < 0) continue;
      if (frame->pts != AV_NOPTS_VALUE) each(int32_t(frame->pts), *frame);
      av_frame_unref(frame.get());
    }
  }
}

// Note [Packet numbers as pts]
// A frame must be matched with the packet it came from. The container's timestamps cannot be trusted for that (they may be missing or
// equal), so each packet is sent with its number in decode order as its pts. Every decoder of libavcodec hands the pts of a packet on to
// its frame, in every version; reordered_opaque and copy_opaque, made for this, come and go with versions. No decoder uses the values:
// presentation order comes from the bitstream.

}  // namespace vidload
