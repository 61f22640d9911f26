#include <pybind11/numpy.h>
#include <pybind11/stl.h>

extern "C" {
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
}

#include <cstring>
#include <map>

#include "batch/video_reader.h"
#include "bindings/bindings.h"

namespace py = pybind11;

namespace vidload {
namespace {

struct PlaneCopy {
  std::vector<uint8_t> bytes;
  int height = 0, row_bytes = 0;
};

struct PictureCopy {
  std::vector<PlaneCopy> planes;
  int bytes_per_sample = 1;
};

PictureCopy copy_picture(const AVFrame& frame) {
  const auto format = AVPixelFormat(frame.format);
  const AVPixFmtDescriptor* descriptor = av_pix_fmt_desc_get(format);
  PictureCopy copy;
  copy.bytes_per_sample = descriptor->comp[0].depth > 8 ? 2 : 1;
  for (int i = 0; i < av_pix_fmt_count_planes(format); ++i) {
    PlaneCopy plane;
    const bool is_chroma = (i == 1 || i == 2) && !(descriptor->flags & AV_PIX_FMT_FLAG_RGB);
    plane.height = is_chroma ? AV_CEIL_RSHIFT(frame.height, descriptor->log2_chroma_h) : frame.height;
    plane.row_bytes = av_image_get_linesize(format, frame.width, i);
    plane.bytes.resize(size_t(plane.height) * size_t(plane.row_bytes));
    for (int row = 0; row < plane.height; ++row) {
      std::memcpy(plane.bytes.data() + size_t(row) * size_t(plane.row_bytes), frame.data[i] + ptrdiff_t(row) * frame.linesize[i],
                  size_t(plane.row_bytes));
    }
    copy.planes.push_back(std::move(plane));
  }
  return copy;
}

py::tuple arrays_of(const PictureCopy& picture) {
  py::tuple result(picture.planes.size());
  for (size_t i = 0; i < picture.planes.size(); ++i) {
    const PlaneCopy& plane = picture.planes[i];
    const py::dtype type = picture.bytes_per_sample == 2 ? py::dtype::of<uint16_t>() : py::dtype::of<uint8_t>();
    result[i] = py::array(type, {plane.height, plane.row_bytes / picture.bytes_per_sample}, plane.bytes.data());
  }
  return result;
}

}  // namespace

void bind_reader(py::module_& module) {
  py::class_<VideoReader>(module, "VideoReader", "Frames of one file; vidload.VideoReader is the public face.")
      .def(py::init([](const std::string& path) {
             py::gil_scoped_release release;
             return std::make_unique<VideoReader>(path);
           }),
           py::arg("path"))
      .def_static(
          "of_bytes",
          [](py::buffer buffer) {
            // The buffer view keeps the caller's bytes alive and unchanged in size; it is released with the GIL held.
            auto* info = new py::buffer_info(buffer.request());
            std::shared_ptr<void> owner(info, [](py::buffer_info* view) {
              py::gil_scoped_acquire acquire;
              delete view;
            });
            if (info->itemsize * info->size > 0 && (info->ndim != 1 || info->strides[0] != info->itemsize)) {
              throw Error("a video in memory must be one contiguous run of bytes");
            }
            const auto* data = static_cast<const uint8_t*>(info->ptr);
            const int64_t size = info->size * info->itemsize;
            py::gil_scoped_release release;
            return std::make_unique<VideoReader>(open_bytes(data, size, std::move(owner)));
          },
          py::arg("data"))
      .def_property_readonly("index", [](const VideoReader& reader) { return std::make_shared<PacketIndex>(reader.index()); })
      .def(
          "plan",
          [](const VideoReader& reader, const std::vector<int64_t>& frames) {
            const DecodePlan plan = reader.plan(frames);
            py::list spans;
            for (const Span& span : plan.spans) spans.append(py::make_tuple(span.packets.front(), span.packets.back() + 1));
            return py::make_tuple(spans, plan.num_decoded, plan.num_dropped, plan.num_skipped, plan.bytes_read);
          },
          py::arg("frames"))
      .def(
          "read_rgb",
          [](VideoReader& reader, const std::vector<int64_t>& frames) {
            const StreamInfo& stream = reader.index().stream;
            py::array_t<uint8_t> out(
                {py::ssize_t(frames.size()), py::ssize_t(stream.height()), py::ssize_t(stream.width()), py::ssize_t(3)});
            uint8_t* data = out.mutable_data();
            {
              py::gil_scoped_release release;
              reader.read_rgb(frames, data);
            }
            return out;
          },
          py::arg("frames"), "uint8 [len(frames), height, width, 3]")
      .def(
          "read_rgb_to_device",
          [](VideoReader& reader, const std::vector<int64_t>& frames, int device, const std::string& decoder, bool strict, uintptr_t out,
             uintptr_t consumer) {
            const CudaTarget target{device, cuda_decoding(decoder), strict};
            py::gil_scoped_release release;
            reader.read_rgb(frames, target, reinterpret_cast<uint8_t*>(out), reinterpret_cast<CUstream>(consumer));
          },
          py::arg("frames"), py::arg("device"), py::arg("decoder"), py::arg("strict"), py::arg("out"), py::arg("consumer"),
          "The same to the address `out` of a GPU, in order with the stream `consumer`.")
      .def(
          "read_planes",
          [](VideoReader& reader, const std::vector<int64_t>& frames) {
            std::map<int64_t, PictureCopy> pictures;
            {
              py::gil_scoped_release release;
              reader.read_pictures(frames, [&](int64_t frame, const AVFrame& picture) { pictures[frame] = copy_picture(picture); });
            }
            py::list result;
            for (const int64_t frame : frames) result.append(arrays_of(pictures.at(frame)));
            return result;
          },
          py::arg("frames"), "a tuple of planes (uint8 or uint16, [rows, samples]) for each frame");
}

}  // namespace vidload
