// frame_folder_sample: a sample that is a folder of extracted frames, a JPEG file each.
#pragma once

#include "batch/frame_name.h"
#include "batch/sample.h"

namespace vidload {

class FrameFolderSample final : public Sample {
 public:
  // Frame 0 has the number `first_number` in its name.
  FrameFolderSample(std::string folder, std::shared_ptr<const FrameName> frame_name, int64_t first_number, int64_t num_frames)
      : Sample(std::move(folder)), frame_name_(std::move(frame_name)), first_number_(first_number), num_frames_(num_frames) {}

  SampleInfo find_info(Worker& worker, LoadStats& stats) const override;
  void load(const std::vector<int64_t>& frames, SampleInfo& info, Worker& worker, const SampleWriter& writer,
            LoadStats& stats) const override;

 private:
  std::string frame_path(int64_t frame) const { return path() + "/" + frame_name_->of(first_number_ + frame); }

  const std::shared_ptr<const FrameName> frame_name_;
  const int64_t first_number_, num_frames_;
};

}  // namespace vidload
