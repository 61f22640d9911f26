// What vidload._core and vidload._testing both need to speak with Python.
#include <unistd.h>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

#include "bindings/bindings.h"

namespace py = pybind11;

namespace vidload {
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
}

}  // namespace vidload
