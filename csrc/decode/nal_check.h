// nal_check: damage that a decoder of H.264 or HEVC may not notice, but that the bytes themselves give away. See Note [Forbidden bytes].
#pragma once

#include <cstdint>

#include "index/packet_index.h"

namespace vidload {

// How packets of a stream hold NAL units: the size of their length fields, 0 for start codes, -1 for other codecs.
int nal_length_size(const StreamInfo& stream);

// Whether a packet holds bytes that no encoder may write. `length_size`: as above, not negative.
bool has_forbidden_bytes(const uint8_t* data, int size, int length_size);

}  // namespace vidload
