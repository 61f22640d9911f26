// software_decoder: decoding by libavcodec with one thread: parallelism comes from clips.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "decode/decoder.h"
#include "decode/nal_check.h"
#include "picture/pixel_convert.h"

namespace vidload {

class SoftwareDecoder final : public Decoder {
 public:
  // Throws VideoError (naming `path`) when this FFmpeg has no decoder for the codec. With `allow_damaged`, frames that depend on damage
  // are handed over as the decoder conceals it.
  SoftwareDecoder(const StreamInfo& stream, const std::string& path, bool allow_damaged = false);

  bool fits(const StreamInfo& stream) const override;
  int64_t num_pixels() const override { return int64_t{stream_.coded_width} * stream_.coded_height; }
  void run(const Span& span, PacketReader& reader, const PictureSink& sink, DecodeTimes& times, const Cancel* cancel) override;

 private:
  bool run_once(const Span& span, PacketReader& reader, const PictureSink& sink, DecodeTimes& times, const Cancel* cancel);
  int receive(bool drain, const Span& span, const PacketReader& reader, const PictureSink& sink, DecodeTimes& times);
  void note_damage(int32_t packet, int code);
  void note_mismatch(int32_t packet, const char* what);
  void check(const PacketIndex& index, const Span& span, const std::string& path) const;

  UniqueAVCodecContext context_;
  UniqueAVPacket packet_;
  UniqueAVFrame frame_;
  PixelConverter converter_;
  StreamInfo stream_;
  bool allow_damaged_;
  int nal_length_size_;  // -1: no NAL units
  LostPictures lost_pictures_;
  bool is_clean_ = true;

  // Of the span being decoded.
  int32_t damaged_packet_ = -1;
  int damage_code_ = 0;
  std::string mismatch_;
  int64_t last_pts_ = INT64_MIN;    // of the frames that came out, in the index's order
  std::vector<bool> is_delivered_;  // per packet of the span
};

// Fills what take_picture_facts takes from what the decoder knows of the first picture when it asks for memory to decode it into, and
// decodes none of it. `packets`: in decode order, as far as it takes. False where the decoder does not get so far, or does not ask (AV1).
bool read_picture_facts(PacketReader& reader, const std::vector<int32_t>& packets, StreamInfo& stream);

// Hands every frame that a decode of the whole stream gives to `each`, in output order, with the packet it came from, decoding as anyone
// would who knows nothing of the file. Damaged packets are passed over. Throws as Decoder::run.
void decode_all(const PacketIndex& index, const ByteSource& source, const Cancel* cancel,
                const std::function<void(int32_t packet, const AVFrame& picture)>& each);

}  // namespace vidload
