// Converts packets of H.264 and HEVC to a byte stream with start codes, whatever the extradata and the lengths in the packets say.
// Input: codec, size of the extradata, the extradata, then packets, each preceded by its size.
#include "nvdec/annex_b.h"
#include "fuzz/target.h"

using namespace vidload;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static constexpr const char* kCodecs[] = {"h264", "hevc", "vp9", "av1"};
  fuzz::Input input(data, size);
  StreamInfo stream;
  stream.codec = kCodecs[input.take<uint8_t>() % std::size(kCodecs)];
  stream.extradata = input.take_bytes(input.take<uint8_t>());
  AnnexB annex_b(stream);
  while (input.size_left() > 0) {
    const bool with_headers = input.take<uint8_t>() & 1;
    const std::vector<uint8_t> packet = input.take_bytes(input.take<uint16_t>());
    if (packet.empty()) continue;  // no container yields an empty packet
    const std::vector<uint8_t>& out = annex_b.convert(packet.data(), int(packet.size()), with_headers);
    // A NAL unit has at least one byte and gets a four-byte start code instead of a length of one byte or more.
    fuzz::expect(out.size() <= 5 * (packet.size() + stream.extradata.size()) + 64, "the byte stream is about as large as the packet");
    annex_b.starts_anew();
  }
  return 0;
}
