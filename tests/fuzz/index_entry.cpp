// An entry of an index file, made to look intact: rejected, or safe to plan with, to read with and to write again.
// Input: the entry without its header; a header with the correct checksum is prepended.
#include "base/checksum.h"
#include "base/error.h"
#include "decode/packet_reader.h"
#include "fuzz/target.h"
#include "index/packet_index.h"
#include "plan/decode_plan.h"

using namespace vidload;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<uint8_t> header = [] {
    std::vector<uint8_t> bytes = PacketIndex{}.to_bytes();
    bytes.resize(16);  // magic, version, checksum
    return bytes;
  }();
  std::vector<uint8_t> entry = header;
  const uint64_t sum = checksum(data, size);
  std::memcpy(entry.data() + 8, &sum, sizeof sum);
  entry.insert(entry.end(), data, data + size);

  PacketIndex index;
  try {
    index = PacketIndex::from_bytes(entry.data(), entry.size());
  } catch (const Error&) {
    return 0;
  }
  fuzz::expect(index.to_bytes() == entry, "what was read is written back unchanged");
  const int64_t wanted[] = {0, index.num_frames() / 2, index.num_frames() - 1};
  const DecodePlan plan = decode_plan(index, wanted, 3);
  fuzz::expect(plan.num_decoded + plan.num_skipped >= 1, "a plan covers the packets");
  static uint8_t bytes[4096];
  const std::unique_ptr<ByteSource> source = open_bytes(bytes, sizeof bytes, nullptr);
  PacketReader reader(*source, index);
  const UniqueAVPacket packet(av_packet_alloc());
  try {
    for (const Span& span : plan.spans) {
      reader.begin(span.packets);
      for (size_t i = 0; i < span.packets.size(); ++i) {
        reader.read(i, packet.get());
        fuzz::expect(packet->size == index.size[size_t(span.packets[i])], "a packet has the size the index says");
        volatile uint8_t last = packet->data[packet->size - 1];
        static_cast<void>(last);
        av_packet_unref(packet.get());
      }
    }
  } catch (const VideoError&) {
  }
  return 0;
}
