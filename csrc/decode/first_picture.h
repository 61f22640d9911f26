// first_picture: what the first picture of a stream tells that its container may not know: its true size, pixel format and colors
// (take_picture_facts).
#pragma once

#include "decode/packet_reader.h"

namespace vidload {

// By decoding it. Throws as Decoder::run; `stream` is then as it was, unless the picture came and is damaged.
void decode_first_picture(PacketReader& reader, StreamInfo& stream);

// From its headers alone. False as read_picture_facts.
bool read_first_headers(PacketReader& reader, StreamInfo& stream);

}  // namespace vidload
