// hardware_decoders: what batch/choose_decoder asks of the decoders of one piece of hardware.
#pragma once

#include "decode/decoder_pool.h"
#include "decode/fallback.h"

namespace vidload {

class HardwareDecoders {
 public:
  virtual ~HardwareDecoders() = default;
  // "NVDEC", for messages.
  virtual const char* name() const = 0;
  // Throws DecoderRefusal where it cannot decode this, or not bit for bit as software does; what it throws must not depend on luck.
  virtual void check(const PacketIndex& index, const DecodePlan& plan) const = 0;
  virtual DecoderPool& decoders() = 0;
  // Asked after a refusal while decoding: throws where the hardware is lost, which is no matter of the video.
  virtual void check_is_alive() const {}
};

}  // namespace vidload
