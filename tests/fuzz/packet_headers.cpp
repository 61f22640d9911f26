// Reads the first bytes of packets of every supported codec: valid facts, whatever the bytes are.
// Input: codec (and whether they are all that there is: the highest bit), size of the extradata, the extradata, then packets, each preceded
// by its size.
#include "index/packet_headers.h"
#include "fuzz/target.h"

using namespace vidload;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static constexpr AVCodecID kCodecs[] = {AV_CODEC_ID_H264,       AV_CODEC_ID_HEVC,       AV_CODEC_ID_VP8,
                                          AV_CODEC_ID_VP9,        AV_CODEC_ID_AV1,        AV_CODEC_ID_MPEG4,
                                          AV_CODEC_ID_MPEG1VIDEO, AV_CODEC_ID_MPEG2VIDEO, AV_CODEC_ID_MJPEG};
  fuzz::Input input(data, size);
  const UniqueAVCodecParameters parameters(avcodec_parameters_alloc());
  parameters->codec_type = AVMEDIA_TYPE_VIDEO;
  const uint8_t codec = input.take<uint8_t>();
  parameters->codec_id = kCodecs[(codec & 0x7F) % std::size(kCodecs)];
  const std::vector<uint8_t> extradata = input.take_bytes(input.take<uint8_t>());
  if (!extradata.empty()) {
    parameters->extradata = static_cast<uint8_t*>(av_mallocz(extradata.size() + AV_INPUT_BUFFER_PADDING_SIZE));
    std::memcpy(parameters->extradata, extradata.data(), extradata.size());
    parameters->extradata_size = int(extradata.size());
  }
  PacketHeaderReader reader(*parameters, codec & 0x80 ? PacketBytes::heads : PacketBytes::whole);
  while (input.size_left() > 0) {
    std::vector<uint8_t> packet = input.take_bytes(input.take<uint16_t>());
    const int packet_size = int(packet.size());
    if (packet_size == 0) continue;
    packet.resize(packet.size() + AV_INPUT_BUFFER_PADDING_SIZE);  // as in an AVPacket
    const PacketFacts facts = reader.read(packet.data(), packet_size);
    fuzz::expect(facts.temporal_layer >= 0 && facts.temporal_layer <= 7, "a temporal layer has three bits");
  }
  return 0;
}
