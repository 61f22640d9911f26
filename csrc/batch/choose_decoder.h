// choose_decoder: who decodes a video, hardware or software, and what becomes of one that the hardware cannot have. All of that policy is
// here: for a loader's samples and for a reader's frames alike.
#pragma once

#include <functional>
#include <optional>

#include "batch/load_stats.h"
#include "decode/hardware_decoders.h"
#include "device/device_transform.h"
#include "device/write_order.h"

namespace vidload {

enum class Decoding { automatic, software, hardware };

struct DecodePolicy {
  Decoding decoding = Decoding::automatic;
  bool is_strict = false;                // what the hardware cannot decode fails, instead of falling back on software
  HardwareDecoders* hardware = nullptr;  // null: there is none, whatever `decoding` says
};

// Smaller pictures are software's where the choice is automatic: an estimate of where hardware begins to win; see docs/gpu.md.
constexpr int kSmallPicture = 1280 * 720;

// The hardware decoders for clips that go to `device`, or to the host's memory (null). Null: none.
HardwareDecoders* hardware_decoders(const CudaDevice* device);

// The pool whose decoder decodes the plan: the policy's hardware, or `software`. `refusal`: why the hardware could not, if this was seen
// already; set where it is seen now. Throws VideoError or CudaError where the policy is strict and the hardware cannot.
DecoderPool& choose_decoder(const DecodePolicy& policy, DecoderPool& software, const PacketIndex& index, const DecodePlan& plan,
                            std::optional<DecoderRefusal>& refusal, const std::string& path);

// For pictures that only software decodes here: `refusal` is counted where the policy asks for hardware, and thrown where it is strict too.
void note_software_only(const DecodePolicy& policy, const DecoderRefusal& refusal, const std::string& path, LoadStats& stats);

// Told of each wanted frame. `transform`: null for pictures in the host's memory, else as Decoder::device_transform.
using PlacedSink = std::function<void(const WantedFrame& wanted, const DecodedPicture& picture, DeviceTransform* transform)>;

// Decodes a plan by the decoder that choose_decoder says, again by another one where hardware refuses on the way: frames may come twice,
// never at the same time. `order`, null for the host's memory, is told of the writes of decoders with a transform of their own. With
// hardware, under the device's CurrentContext. Counts in `stats`. Throws as Decoder::run and choose_decoder.
void decode_plan_by_choice(const DecodePolicy& policy, DecoderPool& software, const PacketIndex& index, const DecodePlan& plan,
                           PacketReader& reader, WriteOrder* order, const PlacedSink& sink, const Cancel* cancel, LoadStats& stats);

}  // namespace vidload
