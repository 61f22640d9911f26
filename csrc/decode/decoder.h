// decoder: the interface of all that decode video. A span's packets in, its wanted pictures out, each with the frame it is.
// software_decoder implements it here, a hardware decoder in a folder of its own (nvdec/); batch/choose_decoder says which one gets a
// video. A JPEG file (jpeg_decoder) has no stream, no packets and no state from picture to picture, so it stands apart.
#pragma once

#include <functional>

#include "base/cancel.h"
#include "decode/packet_reader.h"
#include "index/packet_index.h"
#include "picture/picture.h"
#include "plan/decode_plan.h"

namespace vidload {

class DeviceTransform;  // device/device_transform.h

// A picture that came out, on loan during the sink's call.
class DecodedPicture {
 public:
  // As libavcodec gave it.
  virtual const AVFrame& frame() const = 0;
  // As the transform reads it, upright. Throws VideoError for a pixel format or a color matrix that it does not know.
  virtual PictureView view() const = 0;

 protected:
  ~DecodedPicture() = default;
};

// Told of each wanted frame as it comes out, in presentation order within a span.
using PictureSink = std::function<void(const WantedFrame& wanted, const DecodedPicture& picture)>;

struct DecodeTimes {
  double read_seconds = 0, decode_seconds = 0;  // the sink's time is in neither
};

// For one thread at a time.
class Decoder {
 public:
  virtual ~Decoder() = default;

  // Whether a stream can be decoded by this decoder as it was opened.
  virtual bool fits(const StreamInfo& stream) const = 0;
  // Of one picture; a decoder holds a few.
  virtual int64_t num_pixels() const = 0;

  // Decodes a span of the reader's index. Throws VideoError that names the first wanted frame that could not be decoded, or that depends on
  // a damaged packet; of kind index_mismatch if what came out contradicts an index made from headers and times alone; of kind cancelled
  // once `cancel` is set. A hardware decoder throws DecoderRefusal instead where software may do better. Frames may have been handed over
  // before that is known. Throws MachineError, bad_alloc. After an exception the decoder is of no more use.
  virtual void run(const Span& span, PacketReader& reader, const PictureSink& sink, DecodeTimes& times, const Cancel* cancel) = 0;

  // Null where pictures lie in the host's memory. Else they lie in a device's, and the sink must have queued all its work on them on the
  // stream of this transform when it returns.
  virtual DeviceTransform* device_transform() { return nullptr; }
  // How often hardware was set up for decoding since the last call.
  virtual int take_num_creations() { return 0; }
};

}  // namespace vidload
