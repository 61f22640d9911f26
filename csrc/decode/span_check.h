// span_check: what a provisional index took on trust, seen to before a span is decoded.
#pragma once

#include "decode/packet_reader.h"
#include "plan/decode_plan.h"

namespace vidload {

// Reads the headers of the span's packets, and of those behind it that may be shown among them, and leaves out of the span those that
// nothing wanted depends on. Returns how many that were. Throws VideoError (kind index_mismatch) where the headers tell other frames than
// the index; as PacketReader::read. Does nothing where the index is not provisional.
int64_t check_span(Span& span, PacketReader& reader);

// All spans of a plan, whose counts are put right; and the first picture of the stream, which decides where frames are counted from.
void check_plan(DecodePlan& plan, PacketReader& reader);

}  // namespace vidload
