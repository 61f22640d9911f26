// video_reader: frames of one file, by frame index: as the decoder's own planes, or as full-size RGB. One call at a time.
#pragma once

#include <functional>
#include <memory>
#include <mutex>

#include "batch/cuda_target.h"
#include "cuda/device_transform.h"
#include "decode/decoder.h"
#include "decode/pixel_convert.h"
#include "index/packet_index.h"
#include "transform/picture.h"

namespace vidload {

class VideoReader {
 public:
  // Throws as index_video. `stream` as there; `allow_damaged` as Decoder's. `cancel` must outlive the reader.
  VideoReader(std::unique_ptr<ByteSource> source, int stream, bool allow_damaged, const Cancel* cancel);
  VideoReader(const std::string& path, int stream, bool allow_damaged, const Cancel* cancel);

  // Replaced by a better one when decoding contradicts it.
  std::shared_ptr<const PacketIndex> index() const;
  // Throws VideoError (kind frame_index) for an index that is not there.
  DecodePlan plan(const std::vector<int64_t>& frames) const;

  // Writes uint8 RGB [len(frames), height, width, 3], upright and resized to that size, to `out`. Throws VideoError.
  void read_rgb(const std::vector<int64_t>& frames, int height, int width, uint8_t* out);
  // The same into memory of a GPU, queued after what is queued on `consumer` and before what will be. Throws CudaError too.
  void read_rgb(const std::vector<int64_t>& frames, int height, int width, const CudaTarget& target, uint8_t* out, CUstream consumer);
  // Calls `each` once for each distinct frame, in decode-span order, with the picture as decoded (not turned upright).
  void read_pictures(const std::vector<int64_t>& frames, const std::function<void(int64_t frame, const AVFrame& picture)>& each);

 private:
  DecodePlan plan(const PacketIndex& index, const std::vector<int64_t>& frames) const;
  void read_pictures_of(const std::shared_ptr<const PacketIndex>& index, const std::vector<int64_t>& frames,
                        const std::function<void(int64_t frame, const AVFrame& picture)>& each);
  std::shared_ptr<const PacketIndex> decoded_index();

  std::unique_ptr<ByteSource> source_;
  const std::string path_;  // empty for memory
  const int stream_;
  const bool allow_damaged_;
  const Cancel* const cancel_;
  mutable std::mutex index_mutex_;
  std::shared_ptr<const PacketIndex> index_;
  std::mutex mutex_;
  std::shared_ptr<const PacketIndex> open_index_;  // that decoder_ and reader_ were opened for
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<PacketReader> reader_;
  PixelConverter converter_;
  std::mutex device_mutex_;
  UniqueDeviceTransform transform_;
};

}  // namespace vidload
