// sample_writer: a sample's pictures in, their pixels out in every place of the batch that wants them: each clip, view and repeat.
#pragma once

#include <cstdint>

#include "batch/decode_request.h"
#include "batch/load_stats.h"
#include "batch/worker.h"
#include "device/write_order.h"
#include "picture/picture.h"

namespace vidload {

class SampleWriter {
 public:
  // `width`, `height`: of the picture that the request's boxes are in pixels of. `order`: the batch's, where it is a GPU's, else null.
  SampleWriter(const SampleRequest& request, int64_t width, int64_t height, WriteOrder* order, Worker& worker)
      : request_(request), width_(width), height_(height), order_(order), worker_(worker) {}

  // `transform`: null for a picture in the host's memory, else that of the decoder it comes from. Counts in `stats`.
  void write(int64_t frame, const PictureView& picture, DeviceTransform* transform, LoadStats& stats) const;

  WriteOrder* order() const { return order_; }

 private:
  template <typename Visit>
  void for_each_place(int64_t frame, const PictureView& picture, Visit visit) const;

  const SampleRequest& request_;
  const int64_t width_, height_;
  WriteOrder* const order_;
  Worker& worker_;
};

}  // namespace vidload
