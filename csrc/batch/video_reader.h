// video_reader: frames of one file, by frame index: as the decoder's own planes, or as full-size RGB. One call at a time.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "batch/choose_decoder.h"
#include "batch/worker.h"
#include "device/device_transform.h"
#include "index/packet_index.h"

namespace vidload {

class VideoReader {
 public:
  // Throws as index_video. `stream` as there; `allow_damaged` as SoftwareDecoder's. `cancel` must outlive the reader.
  VideoReader(std::unique_ptr<ByteSource> source, int stream, bool allow_damaged, const Cancel* cancel);
  VideoReader(const SourceId& id, int stream, bool allow_damaged, const Cancel* cancel);

  // Replaced by a better one when decoding contradicts it.
  std::shared_ptr<const PacketIndex> index() const;
  // Throws VideoError (kind frame_index) for an index that is not there.
  DecodePlan plan(const std::vector<int64_t>& frames);
  // Makes sure that the index is not provisional. Throws as index_video.
  void read_whole_index();

  // Writes uint8 RGB [len(frames), height, width, 3], upright and resized to that size, to `out`. Throws VideoError.
  void read_rgb(const std::vector<int64_t>& frames, int height, int width, uint8_t* out);
  // The same into memory of a GPU, queued after what is queued on `consumer` and before what will be. Throws CudaError too.
  void read_rgb(const std::vector<int64_t>& frames, int height, int width, const CudaDevice& device, const DecodePolicy& policy,
                uint8_t* out, CUstream consumer);
  // Calls `each` once for each distinct frame, in decode-span order, with the picture as decoded (not turned upright).
  void read_pictures(const std::vector<int64_t>& frames, const std::function<void(int64_t frame, const AVFrame& picture)>& each);

 private:
  DecodePlan plan(const PacketIndex& index, const std::vector<int64_t>& frames) const;
  void decode(const std::vector<int64_t>& frames, const DecodePolicy& policy, WriteOrder* order, const PlacedSink& sink);
  // Runs `step`, again with a better index where it shows the one at hand to be wrong.
  template <typename Step>
  void with_right_index(Step step);
  std::shared_ptr<const PacketIndex> better_index(const PacketIndex& wrong);

  std::unique_ptr<ByteSource> source_;
  const std::optional<SourceId> id_;  // none for memory
  const int stream_;
  const Cancel* const cancel_;
  mutable std::mutex index_mutex_;
  std::shared_ptr<const PacketIndex> index_;
  std::mutex mutex_;  // of a call
  DecoderPool decoders_;
  std::shared_ptr<const PacketIndex> open_index_;  // that reader_ is of
  std::unique_ptr<PacketReader> reader_;           // kept: a demuxer goes on from where it is
  UniqueDeviceTransform transform_;
};

}  // namespace vidload
