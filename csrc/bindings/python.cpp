// What vidload._core and vidload._testing both need to speak with Python.
#include <unistd.h>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

#include "bindings/bindings.h"
#include "source/ffmpeg_log.h"

namespace py = pybind11;

namespace vidload {
namespace {

// Hands what FFmpeg has said to the logger "vidload.ffmpeg". A logging handler's own exception is logging's business and goes no further,
// but a Ctrl-C that comes meanwhile must not get lost.
void pass_ffmpeg_lines_on() {
  const py::error_scope scope;
  try {
    const py::object logger = py::module_::import("logging").attr("getLogger")("vidload.ffmpeg");
    for (const FfmpegLine& line : take_ffmpeg_lines()) logger.attr(line.is_error ? "error" : "warning")("%s", file_name(line.text));
  } catch (py::error_already_set& error) {
    if (error.matches(PyExc_KeyboardInterrupt)) PyErr_SetInterrupt();
  } catch (const std::bad_alloc&) {
  }
}

}  // namespace

py::object file_name(const std::string& name) {
  PyObject* text = PyUnicode_DecodeFSDefaultAndSize(name.data(), py::ssize_t(name.size()));
  if (!text) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(text);
}

Decoding decoding_of(const std::string& name) {
  if (name == "auto") return Decoding::automatic;
  if (name == "cpu") return Decoding::software;
  if (name == "nvdec") return Decoding::hardware;
  throw Error("decoder '" + name + "' is not one of auto, cpu, nvdec");
}

GilRelease::GilRelease() : thread_(PyEval_SaveThread()) {}

GilRelease::~GilRelease() {
#if defined(__GLIBCXX__)
  try {
    PyEval_RestoreThread(thread_);
  } catch (const abi::__forced_unwind&) {
    while (true) ::pause();  // in here: leaving the handler would go on with the unwinding
  }
#else
  PyEval_RestoreThread(thread_);
#endif
  if (has_ffmpeg_lines()) pass_ffmpeg_lines_on();
}

}  // namespace vidload
