// decoder: a span's packets in, its wanted frames out, each marked with the packet it came from. Software decoding by libavcodec with
// one thread: parallelism comes from clips.
#pragma once

#include <functional>

#include "base/cancel.h"
#include "decode/packet_reader.h"
#include "index/packet_index.h"
#include "plan/decode_plan.h"

namespace vidload {

// Told of each wanted frame as it comes out, in presentation order within a span. `picture` is valid during the call.
using FrameSink = std::function<void(const WantedFrame& wanted, const AVFrame& picture)>;

struct DecodeTimes {
  double read_seconds = 0, decode_seconds = 0;  // the sink's time is in neither
};

class Decoder {
 public:
  // Throws VideoError (naming `path`) when this FFmpeg has no decoder for the codec. With `allow_damaged`, frames that depend on damage
  // are handed over as the decoder conceals it.
  Decoder(const StreamInfo& stream, const std::string& path, bool allow_damaged = false);

  // Whether a stream can be decoded by this decoder as it was opened.
  bool fits(const StreamInfo& stream) const;
  bool allows_damaged() const { return allow_damaged_; }
  int64_t num_pixels() const { return int64_t{stream_.coded_width} * stream_.coded_height; }

  // Decodes a span of the reader's index. Throws VideoError that names the first wanted frame that could not be decoded, or that depends on
  // a damaged packet; of kind index_mismatch if what came out contradicts an index made from headers and times alone. Frames may have been
  // handed over before that is known. Ends early (kind cancelled) once `cancel` is set. Throws MachineError, bad_alloc.
  void run(const Span& span, PacketReader& reader, const FrameSink& sink, DecodeTimes& times, const Cancel* cancel);

 private:
  int receive(bool drain, const PacketIndex& index, const Span& span, const FrameSink& sink, DecodeTimes& times);
  void note_damage(int32_t packet, int code);
  void note_mismatch(int32_t packet, const char* what);
  void check(const PacketIndex& index, const Span& span, const std::string& path) const;

  UniqueAVCodecContext context_;
  UniqueAVPacket packet_;
  UniqueAVFrame frame_;
  StreamInfo stream_;
  bool allow_damaged_;
  int nal_length_size_;  // -1: no NAL units
  bool is_clean_ = true;

  // Of the span being decoded.
  int32_t damaged_packet_ = -1;
  int damage_code_ = 0;
  std::string mismatch_;
  int64_t last_pts_ = INT64_MIN;    // of the frames that came out, in the index's order
  std::vector<bool> is_delivered_;  // per packet of the span
};

// Hands every frame that a decode of the whole stream gives to `each`, in output order, with the packet it came from, decoding as anyone
// would who knows nothing of the file. Damaged packets are passed over. Throws as Decoder::run.
void decode_all(const PacketIndex& index, const ByteSource& source, const Cancel* cancel,
                const std::function<void(int32_t packet, const AVFrame& picture)>& each);

}  // namespace vidload
