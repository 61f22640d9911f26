#include "nvdec/nvdec_decoder.h"

#include <algorithm>
#include <chrono>

// FFmpeg's header wants cuda.h for three type names, which driver.h has declared.
#define CUDA_VERSION 11000
extern "C" {
#include <libavutil/hwcontext.h>
#include <libavutil/hwcontext_cuda.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
}

#include "base/error.h"
#include "decode/fallback.h"
#include "nvdec/annex_b.h"
#include "nvdec/nvdec_caps.h"
#include "picture/picture_of_frame.h"

namespace vidload {
namespace {

constexpr int64_t kNotWanted = 0xffffffff;  // stands for a packet's number; see Note [Getting the last frames out]
constexpr int kMaxRestarts = 17;            // no decoder holds back more pictures than 16

double now_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// A software-named decoder with a CUDA hwaccel ("h264"), not one of FFmpeg's cuvid wrappers ("h264_cuvid").
const AVCodec* find_codec(AVCodecID id) {
  void* state = nullptr;
  while (const AVCodec* codec = av_codec_iterate(&state)) {
    if (codec->id != id || !av_codec_is_decoder(codec) || (codec->capabilities & AV_CODEC_CAP_HARDWARE)) continue;
    for (int i = 0; const AVCodecHWConfig* config = avcodec_get_hw_config(codec, i); ++i) {
      const bool takes_device = config->methods & AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX;
      if (takes_device && config->device_type == AV_HWDEVICE_TYPE_CUDA) return codec;
    }
  }
  return nullptr;
}

// FFmpeg's device on our context and stream. Sharing the primary context through AV_CUDA_USE_PRIMARY_CONTEXT fails (FFmpeg 5.1) when
// somebody else, such as torch, has started it with other flags.
UniqueAVBuffer make_device(const CudaDevice& device, CUstream stream) {
  UniqueAVBuffer buffer(av_hwdevice_ctx_alloc(AV_HWDEVICE_TYPE_CUDA));
  if (!buffer) throw DecoderRefusal(Fallback::no_nvdec, "this FFmpeg was built without CUDA");
  auto* cuda = static_cast<AVCUDADeviceContext*>(reinterpret_cast<AVHWDeviceContext*>(buffer->data)->hwctx);
  cuda->cuda_ctx = device.context();
  cuda->stream = stream;
  const int code = av_hwdevice_ctx_init(buffer.get());
  if (code < 0) throw DecoderRefusal(Fallback::no_nvdec, "FFmpeg cannot use this GPU (" + av_error_text(code) + ")");
  return buffer;
}

// What an NVDEC decoder is opened with. H.264 and HEVC come with their headers in the packets, and the container's own words for the codec
// do not matter, so that files of different kinds share a decoder.
StreamInfo opening_of(StreamInfo stream) {
  if (stream.codec == "h264" || stream.codec == "hevc") stream.extradata.clear();
  stream.codec_tag = 0;
  stream.format = -1;
  stream.bits_per_coded_sample = 0;
  return stream;
}

// The picture of a CUDA frame, described by device pointers.
PictureView picture_of_cuda_frame(const AVFrame& frame, const StreamInfo& stream, const std::string& path) {
  const auto* frames = reinterpret_cast<const AVHWFramesContext*>(frame.hw_frames_ctx->data);
  // The same frame under its format in device memory; no sample is read through it.
  UniqueAVFrame plain(av_frame_alloc());
  if (!plain) throw std::bad_alloc();
  plain->format = frames->sw_format;
  plain->width = frame.width;
  plain->height = frame.height;
  for (int i = 0; i < AV_NUM_DATA_POINTERS; ++i) plain->data[i] = frame.data[i], plain->linesize[i] = frame.linesize[i];
  plain->colorspace = frame.colorspace;
  plain->color_range = frame.color_range;
  plain->chroma_location = frame.chroma_location;
  plain->crop_left = frame.crop_left;  // libavcodec has cropped hardware frames only at the right and at the bottom
  plain->crop_top = frame.crop_top;
  av_frame_apply_cropping(plain.get(), AV_FRAME_CROP_UNALIGNED);
  PictureView picture = picture_of_frame(*plain, stream, path);
  // P016 stores any depth in the upper bits; what the values mean is what the stream says.
  const AVPixFmtDescriptor* coded = av_pix_fmt_desc_get(av_get_pix_fmt(stream.pixel_format.c_str()));
  if (picture.bytes_per_sample == 2 && coded && coded->comp[0].depth < 16) {
    picture.bit_depth = coded->comp[0].depth;
    picture.shift = 16 - picture.bit_depth;
  }
  return picture;
}

// Whether no packet of the span shows a picture that came in an earlier one. See Note [Pictures that nobody wants].
bool shows_no_earlier_picture(const PacketIndex& index, const Span& span) {
  if (index.stream.codec != "vp9" && index.stream.codec != "av1") return true;
  constexpr int kMostBytesOfShowing = 16;
  return std::all_of(span.packets.begin(), span.packets.end(),
                     [&](int32_t packet) { return index.size[size_t(packet)] > kMostBytesOfShowing; });
}

class NvdecPicture final : public DecodedPicture {
 public:
  NvdecPicture(const AVFrame& frame, const PacketReader& reader) : frame_(frame), reader_(reader) {}
  const AVFrame& frame() const override { return frame_; }
  PictureView view() const override { return picture_of_cuda_frame(frame_, reader_.index().stream, reader_.name()); }

 private:
  const AVFrame& frame_;
  const PacketReader& reader_;
};

}  // namespace

std::vector<std::string> ffmpeg_nvdec_codecs() {
  std::vector<std::string> found;
  for (const std::string& name : nvdec_codecs()) {
    const AVCodecDescriptor* descriptor = avcodec_descriptor_get_by_name(name.c_str());
    if (descriptor && find_codec(descriptor->id)) found.push_back(name);
  }
  return found;
}

NvdecDecoder::NvdecDecoder(const CudaDevice& device, const StreamInfo& stream)
    : stream_(opening_of(stream)),
      lost_pictures_(stream),
      transform_(std::make_unique<DeviceTransform>(device)),
      packet_(av_packet_alloc()),
      frame_(av_frame_alloc()) {
  if (!packet_ || !frame_) throw std::bad_alloc();
  const AVCodecDescriptor* descriptor = avcodec_descriptor_get_by_name(stream.codec.c_str());
  const AVCodec* codec = descriptor ? find_codec(descriptor->id) : nullptr;
  if (!codec) throw DecoderRefusal(Fallback::no_nvdec, "this FFmpeg has no NVDEC support for '" + stream.codec + "'");
  context_.reset(avcodec_alloc_context3(codec));
  if (!context_ || avcodec_parameters_to_context(context_.get(), codec_parameters(stream_).get()) < 0) throw std::bad_alloc();
  const UniqueAVBuffer device_buffer = make_device(device, transform_->stream());
  context_->hw_device_ctx = av_buffer_ref(device_buffer.get());
  context_->opaque = this;
  context_->get_format = choose_format;
  context_->thread_count = 1;
  context_->extra_hw_frames = 2;
#ifdef AV_HWACCEL_FLAG_UNSAFE_OUTPUT  // FFmpeg 6.0: else each picture is copied; we hold one at a time, so none need be
  context_->hwaccel_flags |= AV_HWACCEL_FLAG_UNSAFE_OUTPUT;
#endif
  context_->pkt_timebase = {1, 1};
  const int code = avcodec_open2(context_.get(), codec, nullptr);
  if (code < 0) {
    throw DecoderRefusal(Fallback::create_failed, "cannot open the '" + stream.codec + "' decoder (" + av_error_text(code) + ")");
  }
  context_->flags |= AV_CODEC_FLAG_OUTPUT_CORRUPT;  // as SoftwareDecoder does, for keyframes that are no IDR
}

NvdecDecoder::~NvdecDecoder() {
  cuda_driver().synchronize_stream(transform_->stream());
  context_.reset();  // uses the stream
}

bool NvdecDecoder::fits(const StreamInfo& stream) const {
  return stream.pixel_format == stream_.pixel_format && have_same_parameters(stream_, opening_of(stream));
}

AVPixelFormat NvdecDecoder::choose_format(AVCodecContext* context, const AVPixelFormat* offered) {
  auto* self = static_cast<NvdecDecoder*>(context->opaque);
  for (; *offered != AV_PIX_FMT_NONE; ++offered) {
    if (*offered != AV_PIX_FMT_CUDA) continue;
    ++self->num_creations_;
    self->has_chosen_ = true;
    return AV_PIX_FMT_CUDA;
  }
  // Either CUDA was never offered for this stream, or the decoder could not be made and libavcodec asks again without it.
  if (self->has_chosen_) --self->num_creations_;
  self->is_refused_ = true;
  return AV_PIX_FMT_NONE;
}

int64_t NvdecDecoder::first_missing_frame() const {
  const auto missing = std::find(is_delivered_.begin(), is_delivered_.end(), false);
  return missing == is_delivered_.end() ? -1 : span_->wanted[size_t(missing - is_delivered_.begin())].frame;
}

void NvdecDecoder::fail(int code) const {
  if (is_refused_ && has_chosen_) throw DecoderRefusal(Fallback::create_failed, "the driver could not make a decoder for it");
  if (is_refused_) throw DecoderRefusal(Fallback::no_nvdec, "this FFmpeg has no NVDEC support for '" + stream_.codec + "' of this kind");
  if (code == AVERROR_EXTERNAL) throw DecoderRefusal(Fallback::map_failed, "the driver failed on a picture", first_missing_frame());
  throw DecoderRefusal(Fallback::decode_failed, "NVDEC did not return every frame (" + av_error_text(code) + ")", first_missing_frame());
}

void NvdecDecoder::send(const std::vector<uint8_t>& bytes, size_t second_field, int64_t pts, int flags, DecodeTimes& times) {
  const size_t parts[] = {0, second_field, bytes.size()};
  for (int i = second_field > 0 ? 0 : 1; i < 2; ++i) {
    packet_->data = const_cast<uint8_t*>(bytes.data()) + parts[i];  // not reference counted: avcodec_send_packet copies it
    packet_->size = int(parts[i + 1] - parts[i]);
    packet_->pts = pts;
    packet_->dts = AV_NOPTS_VALUE;
    packet_->flags = flags;
    const double before = now_seconds();
    const int code = avcodec_send_packet(context_.get(), packet_.get());
    times.decode_seconds += now_seconds() - before;
    packet_->data = nullptr;
    packet_->size = 0;
    if (code < 0) fail(code);
  }
}

void NvdecDecoder::receive(const Span& span, const PacketReader& reader, const PictureSink& sink, DecodeTimes& times) {
  while (true) {
    const double before = now_seconds();
    const int code = avcodec_receive_frame(context_.get(), frame_.get());
    times.decode_seconds += now_seconds() - before;
    if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return;
    if (code < 0) fail(code);
    const int64_t packet = frame_->pts & 0xffffffff;
    const bool is_of_span = frame_->pts != AV_NOPTS_VALUE && frame_->pts >> 32 == generation_ && packet != kNotWanted;
    const int32_t start = span.packets.front();
    const bool is_damage = is_of_span && is_damaged(*frame_, context_->codec_id);
    if (is_damage && !is_leading(reader.index(), start, int32_t(packet))) fail(AVERROR_INVALIDDATA);
    const auto found = std::lower_bound(span.wanted.begin(), span.wanted.end(), packet,
                                        [](const WantedFrame& wanted, int64_t value) { return wanted.packet < value; });
    if (is_of_span && found != span.wanted.end() && found->packet == packet) {
      const auto place = size_t(found - span.wanted.begin());
      if (!is_delivered_[place]) --num_missing_;
      is_delivered_[place] = true;
      sink(*found, NvdecPicture(*frame_, reader));
    }
    av_frame_unref(frame_.get());  // its surface is the decoder's again; the stream's order protects what the sink has queued
  }
}

void NvdecDecoder::run(const Span& span, PacketReader& reader, const PictureSink& sink, DecodeTimes& times, const Cancel* cancel) {
  AnnexB annex_b(reader.index().stream);
  ++generation_;
  span_ = &span;
  num_missing_ = span.wanted.size();
  is_delivered_.assign(span.wanted.size(), false);
  restart_.clear();
  const int64_t tag = generation_ << 32;
  const bool may_discard = shows_no_earlier_picture(reader.index(), span);
  auto next_wanted = span.wanted.begin();

  reader.begin(span.packets);
  lost_pictures_.begin(span.packets.front());
  for (size_t i = 0; i < span.packets.size(); ++i) {
    if (cancel && cancel->is_set()) {
      must_flush_ = true;
      throw VideoError(VideoErrorKind::cancelled, reader.name(), -1, "cancelled");
    }
    const double before = now_seconds();
    reader.read(i, packet_.get());
    const std::vector<uint8_t>& bytes = annex_b.convert(packet_->data, packet_->size, i == 0);
    int flags = packet_->flags & AV_PKT_FLAG_KEY;
    while (next_wanted != span.wanted.end() && next_wanted->packet < span.packets[i]) ++next_wanted;
    const bool is_wanted = next_wanted != span.wanted.end() && next_wanted->packet == span.packets[i];
    if (!is_wanted && may_discard) flags |= AV_PKT_FLAG_DISCARD;
    lost_pictures_.watch(packet_->data, packet_->size);
    av_packet_unref(packet_.get());
    times.read_seconds += now_seconds() - before;
    if (i == 0) {
      if (annex_b.starts_anew()) restart_ = bytes, restart_second_field_ = annex_b.second_field();
      if (generation_ > 1 && (must_flush_ || restart_.empty())) {
        transform_->synchronize();  // libavcodec 5.1 makes a new NVDEC decoder then; the old one's surfaces may still be read
        avcodec_flush_buffers(context_.get());
      }
      must_flush_ = false;
    }
    send(bytes, annex_b.second_field(), tag | span.packets[i], flags, times);
    receive(span, reader, sink, times);
    const bool is_lead = is_leading(reader.index(), span.packets.front(), span.packets[i]);
    const bool is_keyframe = reader.index().flags[size_t(span.packets[i])] & kKeyframe;
    if (lost_pictures_.were_before(span.packets[i], is_keyframe) && !is_lead) fail(AVERROR_INVALIDDATA);  // the software finds it then, too
  }
  for (int i = 0; i < kMaxRestarts && num_missing_ > 0 && !restart_.empty(); ++i) {
    send(restart_, restart_second_field_, tag | kNotWanted, AV_PKT_FLAG_KEY | AV_PKT_FLAG_DISCARD, times);
    receive(span, reader, sink, times);
  }
  if (num_missing_ > 0) {
    must_flush_ = true;
    avcodec_send_packet(context_.get(), nullptr);
    receive(span, reader, sink, times);
  }
  if (num_missing_ > 0) fail(AVERROR_INVALIDDATA);
}

// Note [Getting the last frames out]
// A decoder holds pictures back until it knows their order of presentation. Draining it is the usual way to get them, but a drained
// decoder must be flushed before it goes on, and on flushing libavcodec 5.1 makes a new NVDEC decoder for H.264, which costs as much as
// decoding 50 pictures. So the span's own first packet, if it starts decoding anew, is sent again: each such picture pushes out one that
// was held back. Its own frames carry kNotWanted and are passed over. Where that does not help, the decoder is drained after all.

// Note [Fields]
// The two fields of an H.264 frame may be coded as pictures of their own, in one packet. libavcodec (5.1, h264_queue_decode_slice) then
// ends the first one without a look at whether the driver took it, and a frame that refers to it would be wrong without an error. Sent
// as packets of their own, with the same number, either field's failing is the packet's.

// Note [Pictures that nobody wants]
// NVDEC post-processes a picture into a surface of its own when it is mapped, and libavcodec maps every picture that it gives out. A packet
// marked AV_PKT_FLAG_DISCARD marks its picture, and libavcodec (4.4 to 8.1, decode_simple_internal) drops a picture so marked before it
// maps it. The mark stays with the picture: a VP9 or AV1 packet that shows an earlier picture again would show nothing where the earlier
// packet was marked. Such a packet is a few bytes long, so no packet is marked in a span that holds one so short. (If another shape of it
// exists, its frame is missing, which is noticed, and the CPU decodes the sample.)

}  // namespace vidload
