// nvdec_decoder: a span's packets in, its wanted frames out as CUDA frames on the decoder's own stream: decode/Decoder's contract, by
// libavcodec's CUDA hardware decoding. Making an NVDEC decoder costs as much as decoding many clips, so contexts are kept and reused for
// other files: they are fed byte streams with parameter sets in band, and are not flushed where decoding starts anew anyway.
#pragma once

#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <utility>

#include "cuda/annex_b.h"
#include "cuda/device_transform.h"
#include "cuda/fallback.h"
#include "cuda/write_order.h"
#include "decode/decoder.h"

namespace vidload {

// The picture of a CUDA frame, described by device pointers. Throws VideoError as picture_of_frame does.
PictureView picture_of_cuda_frame(const AVFrame& frame, const StreamInfo& stream, const std::string& path);

class NvdecDecoder {
 public:
  // Throws NvdecRefusal, CudaError.
  NvdecDecoder(const CudaDevice& device, const StreamInfo& stream);
  // Waits for what is queued on its stream.
  ~NvdecDecoder();

  // Whether the stream may be decoded by this decoder as it was opened.
  bool fits(const StreamInfo& stream) const;

  // As Decoder::run. `stream` is the one the span's packets are of; `sink` gets CUDA frames and must have queued all work on them on
  // transform().stream() when it returns. Throws NvdecRefusal if a wanted frame does not come, after which the decoder must go.
  void run(const StreamInfo& stream, const Span& span, PacketReader& reader, const FrameSink& sink, DecodeTimes& times,
           const Cancel* cancel);

  DeviceTransform& transform() { return *transform_; }
  // How many NVDEC decoders libavcodec has made for this context since the last call.
  int take_num_creations() { return std::exchange(num_creations_, 0); }

 private:
  static AVPixelFormat choose_format(AVCodecContext* context, const AVPixelFormat* offered);
  void send(const std::vector<uint8_t>& bytes, int64_t pts, bool is_keyframe, DecodeTimes& times);
  void receive(const PacketIndex& index, const Span& span, const FrameSink& sink, DecodeTimes& times);
  [[noreturn]] void fail(int code);

  const CudaDevice& device_;
  StreamInfo stream_;
  std::unique_ptr<DeviceTransform> transform_;  // it owns the stream that the decoder uses too
  UniqueAVCodecContext context_;
  UniqueAVPacket packet_;
  UniqueAVFrame frame_;
  int num_creations_ = 0;
  bool has_chosen_ = false;  // libavcodec offered CUDA and was told to use it
  bool is_refused_ = false;  // it then had nothing but software to offer
  bool must_flush_ = false;  // it was drained
  int64_t generation_ = 0;   // of run(): tells its frames from those of earlier ones still inside the decoder
  size_t num_missing_ = 0;   // wanted frames of the span that have not come
  std::vector<bool> is_delivered_;
  std::vector<uint8_t> restart_;  // the span's first packet, if decoding starts anew there
};

// A GPU's decoders, shared by all loaders of the process. At most max_decoders() exist; who wants one more waits.
class NvdecPool {
 public:
  static NvdecPool& of(const CudaDevice& device);

  // Exclusive use of a decoder that fits; give it back with `release`, or let it go after an error.
  std::unique_ptr<NvdecDecoder> acquire(const StreamInfo& stream, bool* is_reused);
  void release(std::unique_ptr<NvdecDecoder> decoder);
  void forget(std::unique_ptr<NvdecDecoder> decoder);

  static constexpr int kDefaultMaxDecoders = 8;
  void set_max_decoders(int count);
  int num_decoders();

 private:
  explicit NvdecPool(const CudaDevice& device) : device_(device) {}
  const CudaDevice& device_;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::list<std::unique_ptr<NvdecDecoder>> idle_;  // the one used last comes first
  int num_alive_ = 0, max_decoders_ = kDefaultMaxDecoders;
};

// Told of each wanted frame; work on it is queued on the transform's stream before it returns.
using NvdecSink = std::function<void(const WantedFrame& wanted, const PictureView& picture, DeviceTransform& transform)>;

// Decodes a plan by a decoder of the pool, its writes put in `order`. A reused decoder that fails is given up for a fresh one, so frames
// may come twice, never at the same time. Adds to *num_creations. Throws NvdecRefusal, VideoError, CudaError, when nothing is under way
// any more. Under the device's CurrentContext.
void decode_by_nvdec(const CudaDevice& device, const PacketIndex& index, const DecodePlan& plan, PacketReader& reader, WriteOrder& order,
                     const NvdecSink& sink, DecodeTimes& times, const Cancel* cancel, int64_t* num_creations);

}  // namespace vidload
