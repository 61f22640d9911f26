// One sample as the core draws it, for comparison with vidload.sampling and vidload.crops.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "plan/sample_draw.h"
#include "testing/testing.h"

namespace py = pybind11;

namespace vidload {

void bind_drawn(py::module_& module) {
  module.def(
      "draw_sample",
      [](const DrawRules& rules, uint64_t seed, int64_t epoch, int64_t index, int64_t draw, int64_t stands_for, int64_t num_frames,
         double fps, int64_t height, int64_t width, double pixel_aspect) {
        const DrawnSample sample = draw_sample(rules, {seed, epoch, index, draw, stands_for}, num_frames, fps, height, width, pixel_aspect);
        return std::make_pair(sample.frames, py::array_t<DrawnView>(py::ssize_t(sample.views.size()), sample.views.data()));
      },
      py::arg("rules"), py::arg("seed"), py::arg("epoch"), py::arg("index"), py::arg("draw"), py::arg("stands_for"), py::arg("num_frames"),
      py::arg("fps"), py::arg("height"), py::arg("width"), py::arg("pixel_aspect"), "(frames, views) of one sample.");
}

}  // namespace vidload
