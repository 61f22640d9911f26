#include "decode/first_picture.h"

#include "decode/software_decoder.h"
#include "plan/decode_plan.h"

namespace vidload {

static Span first_span(const PacketIndex& index) {
  const int64_t first = 0;
  return decode_plan(index, &first, 1).spans[0];
}

void decode_first_picture(PacketReader& reader, StreamInfo& stream) {
  const Span span = first_span(reader.index());
  SoftwareDecoder decoder(reader.index().stream, reader.name());
  DecodeTimes times;
  const auto take = [&](const WantedFrame&, const DecodedPicture& picture) { take_picture_facts(picture.frame(), stream); };
  decoder.run(span, reader, take, times, reader.cancel());
}

bool read_first_headers(PacketReader& reader, StreamInfo& stream) {
  const Span span = first_span(reader.index());
  return read_picture_facts(reader, span.packets, stream);
}

}  // namespace vidload
