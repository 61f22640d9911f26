// The transform on NumPy arrays. The loader does not pass here: it calls Resampler from its own threads.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/cpu_level.h"
#include "base/error.h"
#include "bindings/bindings.h"
#include "testing/testing.h"
#include "transform/resample_taps.h"
#include "transform/transform.h"
#include "transform/transform_cuda.h"
#include "transform/yuv_matrix.h"

namespace py = pybind11;

namespace vidload {
namespace {

template <typename Value, size_t count>
Value named(const char* what, const std::string& name, const std::array<std::pair<const char*, Value>, count>& table) {
  std::string allowed;
  for (const auto& [known, value] : table) {
    if (name == known) return value;
    allowed += std::string(allowed.empty() ? "" : ", ") + known;
  }
  throw Error(std::string(what) + " is '" + name + "'; allowed are " + allowed);
}

DType dtype_named(const std::string& name) {
  static const std::array<std::pair<const char*, DType>, 4> table{
      {{"uint8", DType::uint8}, {"float16", DType::float16}, {"bfloat16", DType::bfloat16}, {"float32", DType::float32}}};
  return named("dtype", name, table);
}

ColorMatrix matrix_named(const std::string& name) {
  static const std::array<std::pair<const char*, ColorMatrix>, 6> table{{{"bt601", ColorMatrix::bt601},
                                                                         {"bt709", ColorMatrix::bt709},
                                                                         {"bt2020", ColorMatrix::bt2020},
                                                                         {"fcc", ColorMatrix::fcc},
                                                                         {"smpte240m", ColorMatrix::smpte240m},
                                                                         {"rgb", ColorMatrix::rgb}}};
  return named("color_matrix", name, table);
}

ColorRange range_named(const std::string& name) {
  static const std::array<std::pair<const char*, ColorRange>, 2> table{{{"limited", ColorRange::limited}, {"full", ColorRange::full}}};
  return named("color_range", name, table);
}

// bfloat16 has no NumPy dtype: its bits come as uint16.
py::dtype numpy_dtype(DType dtype) {
  switch (dtype) {
    case DType::uint8: return py::dtype("uint8");
    case DType::float16: return py::dtype("float16");
    case DType::bfloat16: return py::dtype("uint16");
    case DType::float32: break;
  }
  return py::dtype("float32");
}

using Numbers = std::array<double, 2>;  // (vertical, horizontal)

struct PictureArguments {
  std::string color_matrix, color_range;
  int bit_depth, shift;
  Numbers chroma_scale, chroma_offset;
  int rotation;
  bool hflip;
};

// Views of T pictures over arrays [T, height, width]; an array [T, height, width, 2] holds interleaved U and V.
class Pictures {
 public:
  Pictures(const std::vector<py::array>& arrays, const PictureArguments& arguments) {
    if (arrays.empty()) throw Error("planes is empty; give Y, or Y, U, V, or Y and interleaved UV, or G, B, R");
    PictureView& p = first_;
    p = PictureView{};
    for (const py::array& array : arrays) {
      const bool is_interleaved = array.ndim() == 4 && array.shape(3) == 2;
      if (array.ndim() != 3 && !is_interleaved) {
        throw Error("planes must be arrays [T, height, width] or, for interleaved chroma, [T, height, width, 2]");
      }
      if (array.dtype().kind() != 'u' || (array.itemsize() != 1 && array.itemsize() != 2) || array.itemsize() != arrays[0].itemsize() ||
          array.shape(0) != arrays[0].shape(0)) {
        throw Error("planes must all be uint8 or all uint16, and hold the same number of pictures");
      }
      for (int channel = 0; channel < (is_interleaved ? 2 : 1); ++channel) {
        if (p.num_planes == 3) throw Error("planes hold more than three planes");
        PlaneView& plane = p.planes[p.num_planes];
        plane.data = static_cast<const uint8_t*>(array.data()) + (is_interleaved ? channel * array.strides(3) : 0);
        plane.row_stride_bytes = array.strides(1);
        plane.pixel_stride_bytes = array.strides(2);
        plane.height = static_cast<int>(array.shape(1));
        plane.width = static_cast<int>(array.shape(2));
        picture_stride_[p.num_planes++] = array.strides(0);
      }
    }
    count_ = arrays[0].shape(0);
    p.width = p.planes[0].width;
    p.height = p.planes[0].height;
    p.bytes_per_sample = static_cast<int>(arrays[0].itemsize());
    p.bit_depth = arguments.bit_depth;
    p.shift = arguments.shift;
    p.chroma_scale_y = arguments.chroma_scale[0];
    p.chroma_scale_x = arguments.chroma_scale[1];
    p.chroma_offset_y = arguments.chroma_offset[0];
    p.chroma_offset_x = arguments.chroma_offset[1];
    p.matrix = matrix_named(arguments.color_matrix);
    p.range = range_named(arguments.color_range);
    rotation_ = arguments.rotation;
    hflip_ = arguments.hflip;
  }

  ptrdiff_t count() const { return count_; }

  PictureView operator[](ptrdiff_t t) const {
    PictureView picture = first_;
    for (int p = 0; p < picture.num_planes; ++p) picture.planes[p].data += t * picture_stride_[p];
    return oriented(picture, rotation_, hflip_);
  }

 private:
  PictureView first_;
  ptrdiff_t picture_stride_[3] = {};
  ptrdiff_t count_ = 0;
  int rotation_ = 0;
  bool hflip_ = false;
};

// Views of T outputs over an array [T, 3, height, width] of any strides the transform can write.
class Outputs {
 public:
  Outputs(py::array array, const TransformSpec& spec, ptrdiff_t count) {
    if (array.ndim() != 4 || array.shape(0) != count || array.shape(1) != 3 || array.shape(2) != spec.height ||
        array.shape(3) != spec.width || !array.dtype().is(numpy_dtype(spec.dtype))) {
      throw Error("out must be an array [" + std::to_string(count) + ", 3, " + std::to_string(spec.height) + ", " +
                  std::to_string(spec.width) + "] of the output's dtype (uint16 for bfloat16)");
    }
    const ptrdiff_t size = array.itemsize();
    picture_stride_bytes_ = array.strides(0);
    first_ = {array.mutable_data(), array.strides(1) / size, array.strides(2) / size, array.strides(3) / size};
  }

  OutputView operator[](ptrdiff_t t) const {
    OutputView out = first_;
    out.data = static_cast<uint8_t*>(out.data) + t * picture_stride_bytes_;
    return out;
  }

 private:
  OutputView first_;
  ptrdiff_t picture_stride_bytes_;
};

using Boxes = py::array_t<double, py::array::c_style | py::array::forcecast>;  // [4], or [T, 4]

std::vector<CropBox> crop_boxes(const Boxes& boxes, bool flip, ptrdiff_t count) {
  const bool is_shared = boxes.ndim() == 1;
  if (boxes.ndim() < 1 || boxes.ndim() > 2 || boxes.shape(boxes.ndim() - 1) != 4 || (!is_shared && boxes.shape(0) != count)) {
    throw Error("box must be (top, left, height, width), or an array [" + std::to_string(count) + ", 4] of them");
  }
  std::vector<CropBox> result;
  for (ptrdiff_t t = 0; t < count; ++t) {
    const double* box = boxes.data() + (is_shared ? 0 : 4 * t);
    result.push_back({box[0], box[1], box[2], box[3], flip});
  }
  return result;
}

TransformSpec transform_spec(int height, int width, const std::string& dtype, bool antialias,
                             const std::optional<std::array<float, 3>>& mean, const std::optional<std::array<float, 3>>& std) {
  if (mean.has_value() != std.has_value()) throw Error("mean and std go together: give both or neither");
  TransformSpec spec{height, width, dtype_named(dtype), antialias, mean.has_value(), {}, {}};
  for (int c = 0; mean && c < 3; ++c) {
    spec.mean[c] = (*mean)[c];
    spec.std[c] = (*std)[c];
  }
  return spec;
}

// T pictures and where each goes: what transform_planes and describe_pictures make of their common arguments.
struct Request {
  TransformSpec spec;
  Pictures pictures;
  py::array out;
  Outputs outputs;
  std::vector<CropBox> boxes;
};

Request request(const std::vector<py::array>& planes, const Boxes& box, bool flip, int height, int width, const std::string& dtype,
                bool antialias, const std::optional<std::array<float, 3>>& mean, const std::optional<std::array<float, 3>>& std,
                bool channels_last, const std::string& color_matrix, const std::string& color_range, int bit_depth, int shift,
                const Numbers& chroma_scale, const Numbers& chroma_offset, int rotation, bool hflip, std::optional<py::array> out) {
  const TransformSpec spec = transform_spec(height, width, dtype, antialias, mean, std);
  const Pictures pictures(planes, {color_matrix, color_range, bit_depth, shift, chroma_scale, chroma_offset, rotation, hflip});
  const ptrdiff_t count = pictures.count();
  if (!out) {
    const ptrdiff_t size = numpy_dtype(spec.dtype).itemsize(), picture = size * 3 * height * width;
    const std::vector<ptrdiff_t> shape{count, 3, height, width};
    const auto strides = channels_last ? std::vector<ptrdiff_t>{picture, size, size * 3 * width, size * 3}
                                       : std::vector<ptrdiff_t>{picture, size * height * width, size * width, size};
    out = py::array(numpy_dtype(spec.dtype), shape, strides);
  }
  return {spec, pictures, *out, Outputs(*out, spec, count), crop_boxes(box, flip, count)};
}

// Python functions that take request()'s arguments.
template <typename... Common>
struct WithRequest {
  explicit WithRequest(Request (*)(Common...)) {}

  static py::array transform_planes(Common... common, const std::optional<std::string>& cpu_level) {
    const Request r = request(common...);
    Resampler resampler(r.spec, cpu_level ? cpu_level_from_name(*cpu_level) : vidload::cpu_level());
    {
      const GilRelease release;
      for (ptrdiff_t t = 0; t < r.pictures.count(); ++t) {
        const PictureView picture = r.pictures[t];
        resampler.set(picture, r.boxes[t]);
        resampler.run(picture, r.outputs[t]);
      }
    }
    return r.out;
  }

  static py::tuple describe_pictures(Common... common) {
    const Request r = request(common...);
    TransformPlan plan(r.spec);
    py::list tables;
    py::array_t<uint8_t> table, descriptors({r.pictures.count(), static_cast<ptrdiff_t>(sizeof(PictureDescriptor))});
    for (ptrdiff_t t = 0; t < r.pictures.count(); ++t) {
      const PictureView picture = r.pictures[t];
      if (plan.set(picture, r.boxes[t])) {
        table = py::array_t<uint8_t>(static_cast<ptrdiff_t>(tap_table_bytes(plan)));
        write_tap_table(plan, table.mutable_data());
        tables.append(table);
      }
      const PictureDescriptor descriptor = picture_descriptor(plan, picture, r.outputs[t], table.data());
      std::memcpy(descriptors.mutable_data(t, 0), &descriptor, sizeof descriptor);
    }
    return py::make_tuple(descriptors, tables, r.out);
  }
};

using DescriptorBytes = py::array_t<uint8_t, py::array::c_style>;

void run_descriptors_on_host(const DescriptorBytes& descriptors, const std::string& dtype) {
  if (descriptors.ndim() != 2 || descriptors.shape(1) != static_cast<ptrdiff_t>(sizeof(PictureDescriptor))) {
    throw Error("descriptors must be what describe_pictures returned");
  }
  transform_on_host(reinterpret_cast<const PictureDescriptor*>(descriptors.data()), static_cast<int>(descriptors.shape(0)),
                    dtype_named(dtype));
}

py::tuple taps(int source_size, double first_center, double step, int num_outputs, bool antialias, bool flip) {
  ResampleTaps taps;
  resample_taps({source_size, first_center, step, num_outputs, antialias, flip}, taps);
  py::array_t<int32_t> start(num_outputs);
  py::array_t<float> weight({num_outputs, taps.num_taps});
  for (int i = 0; i < num_outputs; ++i) {
    start.mutable_at(i) = taps.start[i];
    for (int k = 0; k < taps.num_taps; ++k) weight.mutable_at(i, k) = taps.weight[static_cast<size_t>(k) * taps.stride + i];
  }
  return py::make_tuple(start, weight);
}

py::tuple coefficients(const std::string& color_matrix, const std::string& color_range, int bit_depth, int num_planes) {
  const ColorCoefficients color = color_coefficients(matrix_named(color_matrix), range_named(color_range), bit_depth, num_planes);
  return py::make_tuple(py::array_t<float>({3, 3}, &color.weight[0][0]), py::array_t<float>(3, color.offset));
}

}  // namespace

void bind_transform(py::module_& module) {
  using namespace pybind11::literals;
  using Functions = decltype(WithRequest(&request));
  const auto arguments = std::make_tuple("planes"_a, py::kw_only(), "box"_a, "flip"_a = false, "height"_a, "width"_a, "dtype"_a = "float32",
                                         "antialias"_a = true, "mean"_a = py::none(), "std"_a = py::none(), "channels_last"_a = false,
                                         "color_matrix"_a = "bt601", "color_range"_a = "limited", "bit_depth"_a = 8, "shift"_a = 0,
                                         "chroma_scale"_a = Numbers{1, 1}, "chroma_offset"_a = Numbers{0.5, 0.5}, "rotation"_a = 0,
                                         "hflip"_a = false, "out"_a = py::none());
  std::apply(
      [&](const auto&... common) {
        module.def("transform_planes", &Functions::transform_planes, common..., "cpu_level"_a = py::none(),
                   R"(Crops, resizes and converts T pictures of one geometry; returns an array [T, 3, height, width].

planes: uint8 or uint16 arrays [T, h, w] with any strides: Y, or Y U V, or G B R, or Y and UV [T, h, w, 2].
box: (top, left, height, width) in display luma pixels, or one for each picture [T, 4]. chroma_scale and chroma_offset
are (vertical, horizontal). bfloat16 comes as its uint16 bits. `out` receives the pixels instead of a new array; with
channels_last the new array's memory is [T, height, width, 3]. Raises ValueError for arguments that make no sense.)");
        module.def("describe_pictures", &Functions::describe_pictures, common...,
                   R"(What the CUDA kernel would be given for the same call of transform_planes, with host pointers.

Returns (descriptors uint8 [T, bytes], tap tables they point to, out). Planes, tables and out must outlive their use.)");
      },
      arguments);
  module.def("run_descriptors_on_host", &run_descriptors_on_host, "descriptors"_a, "dtype"_a,
             "Runs the CUDA kernel's host twin over the grid.");
  module.def("resample_taps", &taps, "source_size"_a, py::kw_only(), "first_center"_a, "step"_a, "num_outputs"_a, "antialias"_a,
             "flip"_a = false, "First sample [num_outputs] and weights [num_outputs, num_taps] of each output of one axis.");
  module.def("color_coefficients", &coefficients, "color_matrix"_a, "color_range"_a, "bit_depth"_a = 8, "num_planes"_a = 3,
             "Weights [3, 3] and offsets [3] from stored plane values to R, G, B on the 0-255 scale.");
}

}  // namespace vidload
