#include <pybind11/numpy.h>
#include <pybind11/stl.h>

extern "C" {
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
}

#include <cstring>
#include <map>
#include <mutex>
#include <string_view>

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

// A Python file object, open for binary reading. Its position is moved; nobody else may use it meanwhile.
class PythonFile final : public ByteSource {
 public:
  PythonFile(py::object file, std::string name) : file_(std::move(file)), name_(std::move(name)) {
    file_.attr("seek")(0, 2);
    size_ = file_.attr("tell")().cast<int64_t>();
    if (size_ <= 0) throw VideoError(VideoErrorKind::unreadable, name_, -1, "the file is empty");
  }
  ~PythonFile() override {  // NOLINT(bugprone-exception-escape): without memory for the GIL's state there is no going on
    py::gil_scoped_acquire acquire;
    file_ = py::object();
  }
  PythonFile(const PythonFile&) = delete;
  PythonFile& operator=(const PythonFile&) = delete;

  int64_t read(int64_t offset, uint8_t* out, int64_t size) const override {
    std::lock_guard<std::mutex> lock(mutex_);  // before the GIL: whoever waits here does not hold that
    py::gil_scoped_acquire acquire;
    file_.attr("seek")(offset);
    int64_t done = 0;
    while (done < size) {
      const py::object piece = file_.attr("read")(size - done);
      if (!py::isinstance<py::bytes>(piece)) throw py::type_error(name_ + ": read() must return bytes; open the file in binary mode");
      const py::bytes held = py::reinterpret_borrow<py::bytes>(piece);
      const std::string_view bytes = held;
      if (int64_t(bytes.size()) > size - done) throw Error(name_ + ": read() returned more bytes than it was asked for");
      if (bytes.empty() && offset + done < size_) {
        throw VideoError(VideoErrorKind::unreadable, name_, -1, "the file ended before the size it had when it was opened");
      }
      if (bytes.empty()) break;
      std::memcpy(out + done, bytes.data(), bytes.size());
      done += int64_t(bytes.size());
    }
    return done;
  }
  int64_t size() const override { return size_; }
  const std::string& name() const override { return name_; }

 private:
  mutable std::mutex mutex_;
  py::object file_;
  std::string name_;
  int64_t size_ = 0;
};

}  // namespace

void bind_reader(py::module_& module) {
  py::class_<DecodePlan>(module, "DecodePlan", "What reading some frames takes, in packets.")
      .def_property_readonly(
          "spans",
          [](const DecodePlan& plan) {
            std::vector<std::pair<int32_t, int32_t>> spans;
            spans.reserve(plan.spans.size());
            for (const Span& span : plan.spans) spans.emplace_back(span.packets.front(), span.packets.back() + 1);
            return spans;
          },
          "(first packet, last packet + 1) of each")
      .def_readonly("num_decoded", &DecodePlan::num_decoded)
      .def_readonly("num_dropped", &DecodePlan::num_dropped)
      .def_readonly("num_skipped", &DecodePlan::num_skipped)
      .def_readonly("bytes_read", &DecodePlan::bytes_read);

  py::class_<VideoReader>(module, "VideoReader", "Frames of one file; vidload.VideoReader is the public face.")
      .def(py::init([](const SourceId& source, int stream, bool allow_damaged) {
             const GilRelease release;
             return std::make_unique<VideoReader>(source, stream, allow_damaged, &python_signals());
           }),
           py::arg("source"), py::arg("stream") = -1, py::arg("allow_damaged") = false)
      .def_static(
          "of_bytes",
          [](const py::buffer& buffer, int stream, bool allow_damaged) {
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
            const GilRelease release;
            return std::make_unique<VideoReader>(open_bytes(data, size, std::move(owner)), stream, allow_damaged, &python_signals());
          },
          py::arg("data"), py::arg("stream") = -1, py::arg("allow_damaged") = false)
      .def_static(
          "of_file",
          [](py::object file, const std::string& name, int stream, bool allow_damaged) {
            auto source = std::make_unique<PythonFile>(std::move(file), name);
            const GilRelease release;
            return std::make_unique<VideoReader>(std::move(source), stream, allow_damaged, &python_signals());
          },
          py::arg("file"), py::arg("name"), py::arg("stream") = -1, py::arg("allow_damaged") = false)
      .def_property_readonly("index", [](const VideoReader& reader) { return std::const_pointer_cast<PacketIndex>(reader.index()); })
      .def(
          "read_whole_index",
          [](VideoReader& reader) {
            const GilRelease release;
            reader.read_whole_index();
          },
          "Makes sure that the index is not provisional.")
      .def(
          "plan",
          [](VideoReader& reader, const std::vector<int64_t>& frames) {
            const GilRelease release;
            return reader.plan(frames);
          },
          py::arg("frames"))
      .def(
          "read_rgb",
          [](VideoReader& reader, const std::vector<int64_t>& frames, int height, int width) {
            py::array_t<uint8_t> out({py::ssize_t(frames.size()), py::ssize_t(height), py::ssize_t(width), py::ssize_t(3)});
            uint8_t* data = out.mutable_data();
            {
              const GilRelease release;
              reader.read_rgb(frames, height, width, data);
            }
            return out;
          },
          py::arg("frames"), py::arg("height"), py::arg("width"), "uint8 [len(frames), height, width, 3]")
      .def(
          "read_rgb_to_device",
          [](VideoReader& reader, const std::vector<int64_t>& frames, int height, int width, int device, const std::string& decoder,
             bool strict, uintptr_t out, uintptr_t consumer) {
            const Decoding decoding = decoding_of(decoder);
            const GilRelease release;
            const CudaDevice& gpu = CudaDevice::get(device);
            const DecodePolicy policy{decoding, strict, hardware_decoders(&gpu)};
            reader.read_rgb(frames, height, width, gpu, policy, reinterpret_cast<uint8_t*>(out), reinterpret_cast<CUstream>(consumer));
          },
          py::arg("frames"), py::arg("height"), py::arg("width"), py::arg("device"), py::arg("decoder"), py::arg("strict"), py::arg("out"),
          py::arg("consumer"), "The same to the address `out` of a GPU, in order with the stream `consumer`.")
      .def(
          "read_planes",
          [](VideoReader& reader, const std::vector<int64_t>& frames) {
            std::map<int64_t, PictureCopy> pictures;
            {
              const GilRelease release;
              reader.read_pictures(frames, [&](int64_t frame, const AVFrame& picture) { pictures[frame] = copy_picture(picture); });
            }
            py::list result;
            for (const int64_t frame : frames) result.append(arrays_of(pictures.at(frame)));
            return result;
          },
          py::arg("frames"), "a tuple of planes (uint8 or uint16, [rows, samples]) for each frame");
}

}  // namespace vidload
