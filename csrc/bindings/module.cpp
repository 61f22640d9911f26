// vidload._core: the compiled half of vidload. Private: users import vidload.
#include "bindings/bindings.h"

#include <pybind11/stl.h>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/avutil.h>
}

#include <unistd.h>
#include <chrono>

#include <cstdlib>
#include <cstring>

#include "base/cpu_level.h"
#include "base/limits.h"
#include "source/ffmpeg_log.h"

namespace py = pybind11;

namespace vidload {

py::object python_error(const VideoError& error) {
  // A reason may name a file too, or quote a container, in any encoding.
  return py::module_::import("vidload.errors")
      .attr("_from_core")(error_kind_name(error.kind()), file_name(error.path()), error.frame(), file_name(error.reason()),
                          error.av_error());
}

static void raise(const py::object& exception) { PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr()); }

// What is not here is pybind11's business: std::runtime_error, and so CudaError, is RuntimeError.
static void translate_errors(std::exception_ptr pointer) {  // NOLINT(performance-unnecessary-value-param): as pybind11 calls it
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const VideoError& error) {
    raise(python_error(error));
  } catch (const MachineError& error) {
    // OSError(errno, "cannot read: Input/output error", path) becomes the subclass of its errno, as open() raises it.
    const std::string text = error.action() + ": " + std::strerror(error.error_number());
    raise(py::reinterpret_borrow<py::object>(PyExc_OSError)(error.error_number(), text, file_name(error.path())));
  } catch (const Error& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::bad_alloc&) {
    PyErr_SetString(
        PyExc_MemoryError,
        "no memory left to load videos with; use fewer threads (num_workers), smaller batches or fewer ahead (prefetch_factor)");
  }
}

namespace {

class PythonSignals final : public Cancel {
 public:
  bool is_set() const override {
    using Clock = std::chrono::steady_clock;
    static thread_local Clock::time_point next_look;
    if (::gettid() != ::getpid()) return false;  // Python's handlers run on the main thread alone
    const Clock::time_point now = Clock::now();
    if (now < next_look) return false;  // taking the GIL costs more than decoding a packet, if others want it
    next_look = now + std::chrono::milliseconds(100);
    py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    return false;
  }
};

}  // namespace

const Cancel& python_signals() {
  static const PythonSignals signals;
  return signals;
}

static py::dict versions() {
  py::dict result;
  result["ffmpeg"] = av_version_info();
  result["libavcodec"] = std::to_string(avcodec_version() >> 16) + "." + std::to_string(avcodec_version() >> 8 & 255);
  result["libavformat"] = std::to_string(avformat_version() >> 16) + "." + std::to_string(avformat_version() >> 8 & 255);
  py::dict decoders;  // codec -> the decoder that will be used, None if there is none
  for (const char* name : {"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mjpeg"}) {
    const AVCodecDescriptor* descriptor = avcodec_descriptor_get_by_name(name);
    const AVCodec* codec = descriptor ? avcodec_find_decoder(descriptor->id) : nullptr;
    decoders[name] = codec ? py::cast(codec->name) : py::none();
  }
  result["decoders"] = decoders;
  result["configuration"] = avcodec_configuration();
#ifdef VIDLOAD_BUNDLED
  result["is_bundled"] = true;
#else
  result["is_bundled"] = false;
#endif
  result["build"] = VIDLOAD_BUILD;
  return result;
}

template <typename Visit>
static void for_each_limit(VideoLimits& limits, Visit visit) {
  visit("pixels", limits.pixels), visit("packet_bytes", limits.packet_bytes), visit("packets", limits.packets);
  visit("frames", limits.frames), visit("edits", limits.edits), visit("streams", limits.streams);
  visit("jpeg_bytes", limits.jpeg_bytes), visit("jpeg_pixels", limits.jpeg_pixels), visit("cpu_seconds", limits.cpu_seconds);
}

}  // namespace vidload

// It needs no GIL: whatever threads share has a lock of its own. Where Python has none, importing this leaves it off.
PYBIND11_MODULE(_core, module, py::mod_gil_not_used()) {
  using namespace vidload;
  // FFmpeg prints what it finds odd about a stream to stderr, from every thread; it becomes part of the error, and goes to logging,
  // instead.
  keep_ffmpeg_words(std::getenv("VIDLOAD_FFMPEG_LOG") != nullptr);
  py::register_exception_translator(&translate_errors);
  module.def("versions", &versions, "FFmpeg's versions and decoders.");
  module.def("cpu_level", [] { return std::string(cpu_level_name(cpu_level())); }, "The vector instructions in use.");
  module.def(
      "supported_cpu_levels",
      [] {
        std::vector<std::string> names;
        for (const CpuLevel level : supported_cpu_levels()) names.emplace_back(cpu_level_name(level));
        return names;
      },
      "The levels this machine can run, lowest first.");
  module.def("video_limits", [] {
    py::dict result;
    VideoLimits limits = video_limits();
    for_each_limit(limits, [&](const char* name, auto value) { result[name] = value; });
    return result;
  });
  module.def("set_video_limits", [](const py::dict& values) {
    VideoLimits limits;
    for_each_limit(limits, [&](const char* name, auto& value) { value = py::cast<std::decay_t<decltype(value)>>(values[name]); });
    set_video_limits(limits);
  });
  bind_index(module);
  bind_reader(module);
  bind_draw(module);
  bind_loader(module);
  bind_cuda(module);
  bind_memory(module);
  bind_source(module);
}
