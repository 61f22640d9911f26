// video_sample: a sample that is a video: its index is found, and its frames are planned, read, decoded and written.
#pragma once

#include "batch/index_cache.h"
#include "batch/sample.h"

namespace vidload {

class VideoSample final : public Sample {
 public:
  // `stream`: number within the container, -1 for FFmpeg's choice. `stored`: its entry of an index file, if it has one.
  // `needs_whole_index`: not a provisional one.
  VideoSample(SourceId id, int stream, StoredIndex stored, bool needs_whole_index)
      : Sample(id.name), id_(std::move(id)), stream_(stream), stored_(std::move(stored)), needs_whole_index_(needs_whole_index) {}

  SampleInfo find_info(Worker& worker, LoadStats& stats) const override;
  void load(const std::vector<int64_t>& frames, SampleInfo& info, Worker& worker, const SampleWriter& writer,
            LoadStats& stats) const override;

 private:
  void decode(const PacketIndex& index, bool is_unasked, const std::vector<int64_t>& frames, Worker& worker, const SampleWriter& writer,
              LoadStats& stats) const;
  void decode_from(PacketReader& reader, DecodePlan& plan, Worker& worker, const SampleWriter& writer, LoadStats& stats) const;

  const SourceId id_;
  const int stream_;
  const StoredIndex stored_;
  const bool needs_whole_index_;
};

}  // namespace vidload
