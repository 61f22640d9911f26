// nvdec_decoder: a span's packets in, its wanted pictures out as CUDA frames on the decoder's own stream, by libavcodec's CUDA hardware
// decoding. Making an NVDEC decoder costs as much as decoding many clips, so contexts are kept and reused for other files: they are fed
// byte streams with parameter sets in band, and are not flushed where decoding starts anew anyway.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "decode/decoder.h"
#include "decode/nal_check.h"
#include "device/device_transform.h"

namespace vidload {

// Those of nvdec_codecs() that this FFmpeg was built to decode by NVDEC.
std::vector<std::string> ffmpeg_nvdec_codecs();

// Made, used and destroyed under the device's CurrentContext.
class NvdecDecoder final : public Decoder {
 public:
  // Throws DecoderRefusal, CudaError.
  NvdecDecoder(const CudaDevice& device, const StreamInfo& stream);
  // Waits for what is queued on its stream.
  ~NvdecDecoder() override;

  bool fits(const StreamInfo& stream) const override;
  int64_t num_pixels() const override { return int64_t{stream_.coded_width} * stream_.coded_height; }
  // Throws DecoderRefusal if a wanted frame does not come.
  void run(const Span& span, PacketReader& reader, const PictureSink& sink, DecodeTimes& times, const Cancel* cancel) override;
  DeviceTransform* device_transform() override { return transform_.get(); }
  int take_num_creations() override { return std::exchange(num_creations_, 0); }

 private:
  static AVPixelFormat choose_format(AVCodecContext* context, const AVPixelFormat* offered);
  // `second_field`: where it begins, or 0. See Note [Fields].
  void send(const std::vector<uint8_t>& bytes, size_t second_field, int64_t pts, int flags, DecodeTimes& times);
  void receive(const Span& span, const PacketReader& reader, const PictureSink& sink, DecodeTimes& times);
  [[noreturn]] void fail(int code) const;
  int64_t first_missing_frame() const;

  StreamInfo stream_;  // as far as it was opened with
  LostPictures lost_pictures_;
  std::unique_ptr<DeviceTransform> transform_;  // it owns the stream that the decoder uses too
  UniqueAVCodecContext context_;
  UniqueAVPacket packet_;
  UniqueAVFrame frame_;
  int num_creations_ = 0;
  bool has_chosen_ = false;     // libavcodec offered CUDA and was told to use it
  bool is_refused_ = false;     // it then had nothing but software to offer
  bool must_flush_ = false;     // it was drained
  int64_t generation_ = 0;      // of run(): tells its frames from those of earlier ones still inside the decoder
  const Span* span_ = nullptr;  // at work
  size_t num_missing_ = 0;      // its wanted frames that have not come
  std::vector<bool> is_delivered_;
  std::vector<uint8_t> restart_;  // the span's first packet, if decoding starts anew there
  size_t restart_second_field_ = 0;
};

}  // namespace vidload
