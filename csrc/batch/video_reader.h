// video_reader: frames of one file, by frame index: as the decoder's own planes, or as full-size RGB. One call at a time.
#pragma once

#include <functional>
#include <memory>
#include <mutex>

#include "batch/cuda_target.h"
#include "cuda/device_transform.h"
#include "decode/decoder.h"
#include "index/packet_index.h"
#include "transform/picture.h"

namespace vidload {

class VideoReader {
 public:
  // Indexes the source. Throws VideoError.
  explicit VideoReader(std::unique_ptr<ByteSource> source);
  explicit VideoReader(const std::string& path);

  const PacketIndex& index() const { return *index_; }
  // Throws VideoError (kind frame_index) for an index that is not there.
  DecodePlan plan(const std::vector<int64_t>& frames) const;

  // Writes uint8 RGB [len(frames), height, width, 3], upright, to `out`. Throws VideoError.
  void read_rgb(const std::vector<int64_t>& frames, uint8_t* out);
  // The same into memory of a GPU, queued after what is queued on `consumer` and before what will be. Throws CudaError too.
  void read_rgb(const std::vector<int64_t>& frames, const CudaTarget& target, uint8_t* out, CUstream consumer);
  // Calls `each` once for each distinct frame, in decode-span order, with the picture as decoded (not turned upright).
  void read_pictures(const std::vector<int64_t>& frames, const std::function<void(int64_t frame, const AVFrame& picture)>& each);

 private:
  std::unique_ptr<ByteSource> source_;
  std::shared_ptr<const PacketIndex> index_;
  std::mutex mutex_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<PacketReader> reader_;
  std::mutex device_mutex_;
  UniqueDeviceTransform transform_;
};

}  // namespace vidload
