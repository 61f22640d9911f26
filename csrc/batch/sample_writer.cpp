#include "batch/sample_writer.h"

#include <chrono>
#include <vector>

namespace vidload {

// Calls visit(view, box, out) for every place of the batch that wants the frame.
template <typename Visit>
void SampleWriter::for_each_place(int64_t frame, const PictureView& picture, Visit visit) const {
  const DrawnSample& wanted = request_.drawn;
  const SampleStrides& strides = request_.strides;
  // A stream may change its picture's size on the way.
  const double scale_x = double(picture.width) / double(width_), scale_y = double(picture.height) / double(height_);
  const ptrdiff_t item = element_size(request_.spec.dtype);
  for (size_t place = 0; place < wanted.frames.size(); ++place) {
    if (wanted.frames[place] != frame) continue;
    const int clip = int(place) / request_.clip_len, frame_of_clip = int(place) % request_.clip_len;
    for (size_t number = 0; number < wanted.views.size(); ++number) {
      const DrawnView& view = wanted.views[number];
      if (view.clip != clip) continue;
      const CropBox box = {view.top * scale_y, view.left * scale_x, view.height * scale_y, view.width * scale_x, view.flip};
      const ptrdiff_t offset = strides.view * ptrdiff_t(number) + strides.frame * frame_of_clip;
      visit(number, box, OutputView{request_.out + offset * item, strides.channel, strides.row, strides.column});
    }
  }
}

void SampleWriter::write(int64_t frame, const PictureView& picture, DeviceTransform* transform, LoadStats& stats) const {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  if (order_) {
    std::vector<DevicePlacement> placements;
    for_each_place(frame, picture, [&](size_t view, const CropBox& box, const OutputView& out) { placements.push_back({view, box, out}); });
    DeviceTransform& used = transform ? *transform : *worker_.device_transform;
    stats.bytes_uploaded += used.run(request_.spec, picture, transform ? PictureMemory::device : PictureMemory::host, placements);
    stats.num_frames += int64_t(placements.size());
  } else {
    for_each_place(frame, picture, [&](size_t view, const CropBox& box, const OutputView& out) {
      Resampler& resampler = worker_.resampler(request_.spec, view);
      resampler.set(picture, box);
      resampler.run(picture, out);
      ++stats.num_frames;
    });
  }
  stats.transform_seconds += std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace vidload
