// How samples are drawn: rules from Python, and the frames and views that come out.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <array>
#include <utility>

#include "base/error.h"
#include "bindings/bindings.h"
#include "plan/sample_draw.h"

namespace py = pybind11;

namespace vidload {
namespace {

Sampling sampling_of(const std::string& name) {
  if (name == "segments") return Sampling::segments;
  if (name == "dense") return Sampling::dense;
  if (name == "uniform") return Sampling::uniform;
  if (name == "slowfast") return Sampling::slowfast;
  throw Error("sampling '" + name + "' is unknown to the core");
}

Crop crop_of(const std::string& name) {
  if (name == "random_resized_crop") return Crop::random_resized;
  if (name == "multi_scale_crop") return Crop::multi_scale;
  if (name == "random_crop") return Crop::random;
  if (name == "center_crop") return Crop::center;
  if (name == "three_crop") return Crop::three;
  if (name == "ten_crop") return Crop::ten;
  throw Error("crop '" + name + "' is unknown to the core");
}

}  // namespace

void bind_draw(py::module_& module) {
  PYBIND11_NUMPY_DTYPE(DrawnView, clip, top, left, height, width, flip);
  module.attr("VIEW") = py::dtype::of<DrawnView>();

  py::class_<DrawRules>(module, "DrawRules", "How samples are drawn, where vidload.sampling and vidload.transforms name it themselves.")
      .def(py::init([](const std::string& sampling, const std::array<int, 3>& clip, int num_repeats, bool is_training, bool repeats_last,
                       const std::string& crop, const std::pair<int, int>& size, double flip, bool square_pixels) {
             DrawRules rules;
             rules.sampling = sampling_of(sampling);
             rules.clip_len = clip[0], rules.frame_interval = clip[1], rules.num_clips = clip[2];
             rules.num_repeats = num_repeats, rules.is_training = is_training, rules.repeats_last = repeats_last;
             rules.crop = crop_of(crop), rules.crop_name = crop;
             rules.height = size.first, rules.width = size.second, rules.flip = flip, rules.square_pixels = square_pixels;
             return rules;
           }),
           py::kw_only(), py::arg("sampling"), py::arg("clip"), py::arg("num_repeats"), py::arg("is_training"), py::arg("repeats_last"),
           py::arg("crop"), py::arg("size"), py::arg("flip"), py::arg("square_pixels"))
      .def_property(
          "short_side", [](const DrawRules& rules) { return std::make_pair(rules.min_short_side, rules.max_short_side); },
          [](DrawRules& rules, const std::pair<int, int>& range) {
            rules.min_short_side = range.first, rules.max_short_side = range.second;
          })
      .def_property(
          "area_and_log_ratio",
          [](const DrawRules& rules) {
            return std::array<double, 4>{rules.min_area, rules.max_area, rules.log_min_ratio, rules.log_max_ratio};
          },
          [](DrawRules& rules, const std::array<double, 4>& ranges) {
            rules.min_area = ranges[0], rules.max_area = ranges[1], rules.log_min_ratio = ranges[2], rules.log_max_ratio = ranges[3];
          })
      .def_readwrite("num_positions", &DrawRules::num_positions)
      .def_readwrite("crop_sizes", &DrawRules::crop_sizes);
}

}  // namespace vidload
