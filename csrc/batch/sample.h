// sample: one sample of a batch, whatever its pictures come from (video_sample, frame_folder_sample).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "batch/load_stats.h"
#include "batch/sample_writer.h"
#include "batch/worker.h"
#include "index/packet_index.h"

namespace vidload {

struct SampleInfo {
  int64_t num_frames = 0, width = 0, height = 0;  // as displayed
  double average_fps = 0;                         // 0: not known
  std::shared_ptr<const PacketIndex> index;       // null where it is no video
  bool is_unasked = false;                        // nobody has looked whether the video is still the one that was indexed
};

// Its two steps are run by threads of the pool, one after the other. Both throw VideoError, MachineError, CudaError, bad_alloc.
class Sample {
 public:
  explicit Sample(std::string path) : path_(std::move(path)) {}
  virtual ~Sample() = default;

  // What messages call it.
  const std::string& path() const { return path_; }
  virtual SampleInfo find_info(Worker& worker, LoadStats& stats) const = 0;
  // Hands each distinct frame of `frames` to `writer`. `info` is what find_info gave; the index in it is replaced where it proves wrong.
  virtual void load(const std::vector<int64_t>& frames, SampleInfo& info, Worker& worker, const SampleWriter& writer,
                    LoadStats& stats) const = 0;

 private:
  const std::string path_;
};

}  // namespace vidload
