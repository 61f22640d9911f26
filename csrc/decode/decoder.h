// decoder: a span's packets in, its wanted frames out, each marked with the packet it came from. Software decoding by libavcodec with
// one thread: parallelism comes from clips.
#pragma once

#include <atomic>
#include <functional>

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
  // Throws VideoError (naming `path`) when this FFmpeg has no decoder for the codec.
  Decoder(const StreamInfo& stream, const std::string& path);

  // Whether a stream can be decoded by this decoder as it was opened.
  bool fits(const StreamInfo& stream) const;
  int64_t num_pixels() const { return int64_t{stream_.coded_width} * stream_.coded_height; }

  // Decodes a span. Throws VideoError that names the first wanted frame that could not be decoded, or that depends on a damaged packet;
  // frames may have been handed over before that is known. Stops early (kind `cancelled`) once *cancelled is true.
  void run(const Span& span, PacketReader& reader, const FrameSink& sink, DecodeTimes& times, const std::atomic<bool>* cancelled);

 private:
  int receive(bool drain, const Span& span, const FrameSink& sink, DecodeTimes& times);
  void note_damage(int32_t packet, int code);

  UniqueAVCodecContext context_;
  UniqueAVPacket packet_;
  UniqueAVFrame frame_;
  StreamInfo stream_;
  bool is_clean_ = true;

  // Of the span being decoded.
  int32_t damaged_packet_ = -1;
  int damage_code_ = 0;
  std::vector<bool> is_delivered_;  // per wanted frame
};

// Hands every frame that a decode of the whole stream gives to `each`, in output order, with the packet it came from. Damaged packets
// are passed over.
void decode_all(const PacketIndex& index, const ByteSource& source,
                const std::function<void(int32_t packet, const AVFrame& picture)>& each);

}  // namespace vidload
