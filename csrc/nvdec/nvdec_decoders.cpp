#include "nvdec/nvdec_decoders.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "index/packet_headers.h"
#include "nvdec/nvdec_caps.h"
#include "nvdec/nvdec_decoder.h"

namespace vidload {
namespace {

constexpr int kUnknownEngines = 7;  // where the driver does not tell: as many as any card has
constexpr int kOpenForOneInUse = 4;
constexpr int64_t kMostPixels = int64_t{32} * 1920 * 1088;  // of idle decoders; a pixel takes some 36 bytes

// As many in use as keep the engines busy: while one decoder's owner reads and parses, another has work for its engine. More are kept open,
// so that videos of several sizes in turn do not make a decoder each.
DecoderPool::Bounds bounds_of(const CudaDevice& device) {
  const CurrentContext current(device);
  const auto caps = nvdec_caps(device, "h264", 1, 8);
  const int num_in_use = 1 + (caps && caps->num_engines > 0 ? caps->num_engines : kUnknownEngines);
  return {kOpenForOneInUse * num_in_use, kMostPixels, num_in_use};
}

class NvdecDecoders final : public HardwareDecoders {
 public:
  explicit NvdecDecoders(const CudaDevice& device)
      : device_(device),
        decoders_([&device](const StreamInfo& stream, const std::string&) { return std::make_unique<NvdecDecoder>(device, stream); },
                  bounds_of(device)) {}

  const char* name() const override { return "NVDEC"; }

  void check(const PacketIndex& index, const DecodePlan& plan) const override {
    const StreamInfo& stream = index.stream;
    check_nvdec_takes(device_, stream, index.is_regular && stream.inband_headers != int(InbandHeaders::differing));
    for (const Span& span : plan.spans) {
      const auto is_damaged = [&](int32_t packet) { return (index.flags[size_t(packet)] & kDamaged) != 0; };
      if (std::any_of(span.packets.begin(), span.packets.end(), is_damaged)) {
        throw DecoderRefusal(Fallback::decode_failed, "it fails a checksum of the container");
      }
    }
  }

  DecoderPool& decoders() override { return decoders_; }
  void check_is_alive() const override { const CudaStream probe; }

 private:
  const CudaDevice& device_;
  DecoderPool decoders_;
};

}  // namespace

HardwareDecoders& nvdec_decoders(const CudaDevice& device) {
  static auto* mutex = new std::mutex;
  static auto* known = new std::map<int, NvdecDecoders*>;  // never freed: a process that is ending may have no driver any more
  std::lock_guard<std::mutex> lock(*mutex);
  NvdecDecoders*& decoders = (*known)[device.ordinal()];
  if (!decoders) decoders = new NvdecDecoders(device);
  return *decoders;
}

}  // namespace vidload
