#include "batch/choose_decoder.h"

#include <chrono>
#include <string>

#include "base/error.h"
#include "nvdec/nvdec_decoders.h"

namespace vidload {
namespace {

[[noreturn]] void throw_strict(const DecodePolicy& policy, const DecoderRefusal& refusal, const std::string& path) {
  const std::string name = policy.hardware->name();
  if (refusal.reason() == Fallback::create_failed) {  // a stream that its tables allow: it lacks memory, or is lost
    throw CudaError(std::string("CUDA: ") + refusal.what() +
                    ", and strict=True forbids falling back to the CPU; free memory of the GPU, or lower vidload.cuda.set_max_decoders");
  }
  throw VideoError(VideoErrorKind::unsupported, path, refusal.frame(),
                   name + " cannot decode it (" + fallback_name(refusal.reason()) + ": " + refusal.what() +
                       "), and strict=True forbids falling back to the CPU");
}

// One attempt by a decoder of a pool. Throws DecoderRefusal only by a decoder that was opened for it: one used before may lack surfaces
// that this video needs, and is closed.
void decode_by(DecoderPool& decoders, bool is_software, const PacketIndex& index, const DecodePlan& plan, PacketReader& reader,
               WriteOrder* order, const PlacedSink& sink, DecodeTimes& times, const Cancel* cancel, LoadStats& stats) {
  using Clock = std::chrono::steady_clock;
  while (true) {
    const Clock::time_point start = Clock::now();
    DecoderPool::Lease decoder = decoders.take(index.stream, reader.name());
    // A wait for hardware that others use is nobody's decoding.
    if (is_software) times.decode_seconds += std::chrono::duration<double>(Clock::now() - start).count();
    if (is_software) stats.num_decoders_opened += decoder.is_new();
    DeviceTransform* const transform = decoder->device_transform();
    const PictureSink placed = [&](const WantedFrame& wanted, const DecodedPicture& picture) { sink(wanted, picture, transform); };
    try {
      if (transform) order->before_writes(transform->stream());
      for (const Span& span : plan.spans) decoder->run(span, reader, placed, times, cancel);
      if (transform) order->after_writes(transform->stream());
    } catch (const DecoderRefusal&) {
      stats.num_hardware_creations += decoder->take_num_creations();
      if (decoder.is_new()) throw;
      continue;  // closing the decoder waits for what it has queued, so nobody writes beside the next attempt
    }
    stats.num_hardware_creations += decoder->take_num_creations();
    decoder.give_back();
    return;
  }
}

}  // namespace

HardwareDecoders* hardware_decoders(const CudaDevice* device) {
  if (device) return &nvdec_decoders(*device);
  return nullptr;
}

DecoderPool& choose_decoder(const DecodePolicy& policy, DecoderPool& software, const PacketIndex& index, const DecodePlan& plan,
                            std::optional<DecoderRefusal>& refusal, const std::string& path) {
  if (!policy.hardware || policy.decoding == Decoding::software) return software;
  if (!refusal) {
    const int64_t num_pixels = int64_t{index.stream.coded_width} * index.stream.coded_height;
    if (policy.decoding == Decoding::automatic && num_pixels < kSmallPicture) {
      refusal.emplace(Fallback::small_picture, "software is expected to be faster for pictures this small");
    } else {
      try {
        policy.hardware->check(index, plan);
        return policy.hardware->decoders();
      } catch (const DecoderRefusal& reason) {
        refusal = reason;
      }
    }
  }
  // A small picture is software's by choice, not because the hardware could not.
  if (policy.is_strict && refusal->reason() != Fallback::small_picture) throw_strict(policy, *refusal, path);
  return software;
}

void note_software_only(const DecodePolicy& policy, const DecoderRefusal& refusal, const std::string& path, LoadStats& stats) {
  if (!policy.hardware || policy.decoding != Decoding::hardware) return;
  if (policy.is_strict) throw_strict(policy, refusal, path);
  ++stats.num_fallbacks[size_t(refusal.reason())];
}

void decode_plan_by_choice(const DecodePolicy& policy, DecoderPool& software, const PacketIndex& index, const DecodePlan& plan,
                           PacketReader& reader, WriteOrder* order, const PlacedSink& sink, const Cancel* cancel, LoadStats& stats) {
  DecodeTimes times;
  std::optional<DecoderRefusal> refusal;
  const int64_t num_frames = stats.num_frames;
  while (true) {
    DecoderPool& decoders = choose_decoder(policy, software, index, plan, refusal, reader.name());
    const bool is_software = &decoders == &software;
    if (refusal) ++stats.num_fallbacks[size_t(refusal->reason())];
    try {
      decode_by(decoders, is_software, index, plan, reader, order, sink, times, cancel, stats);
      stats.num_hardware_samples += !is_software;
      break;
    } catch (const DecoderRefusal& reason) {
      policy.hardware->check_is_alive();
      stats.num_frames = num_frames;
      refusal = reason;
    }
  }
  stats.bytes_read += reader.bytes_read();
  stats.read_seconds += times.read_seconds;
  stats.decode_seconds += times.decode_seconds;
}

}  // namespace vidload
