// bindings: one function a stage, called by module.cpp in flow order. Each converts types, releases the GIL and calls.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <string>

#include "base/cancel.h"
#include "base/error.h"
#include "batch/choose_decoder.h"
#include "source/byte_source.h"

namespace vidload {

void bind_index(pybind11::module_& module);
void bind_reader(pybind11::module_& module);
void bind_draw(pybind11::module_& module);
void bind_loader(pybind11::module_& module);
void bind_cuda(pybind11::module_& module);
void bind_memory(pybind11::module_& module);
void bind_source(pybind11::module_& module);

// Lets other Python threads run while it lives; to be used in place of py::gil_scoped_release. At its end, what FFmpeg has said by then
// goes to Python's logging.
//
// At interpreter exit, a daemon thread that wants to come back to Python must not: up to Python 3.13 the attempt ends in pthread_exit,
// whose unwinding through C++ aborts the process. Such a thread stops here for good, as it does in Python 3.14 by itself.
class GilRelease {
 public:
  GilRelease();
  ~GilRelease();
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* thread_;
};

// "auto", "cpu" or "nvdec". Throws Error for any other name.
Decoding decoding_of(const std::string& name);

// Set when a signal handler of Python's (Ctrl-C) raises: is_set() then throws what it raised. For work of the calling thread that runs
// without the GIL.
const Cancel& python_signals();

// File names cross as the operating system has them: Python's os.fsencode one way (the caster of FilePath), os.fsdecode the other. They
// need not be UTF-8.
using FilePath = std::filesystem::path;
pybind11::object file_name(const std::string& name);

// Where bytes are, as Python says it, which the caster of SourceId takes: a path or URL, or for a part of one (path or URL, offset, size,
// name, stamp of the file when it was listed: size and mtime, -1 = not known).

// The Python exception (vidload.errors) that says the same.
pybind11::object python_error(const VideoError& error);

}  // namespace vidload

namespace pybind11::detail {

template <>
struct type_caster<vidload::SourceId> {
  PYBIND11_TYPE_CASTER(vidload::SourceId, const_name("str | bytes | tuple[str | bytes, int, int, str | bytes, int, int]"));

  bool load(handle from, bool) {
    if (make_caster<vidload::FilePath> path; !isinstance<tuple>(from)) {
      if (!path.load(from, true)) return false;
      value = vidload::SourceId(cast_op<vidload::FilePath&>(path).native());
      return true;
    }
    using Part = std::tuple<vidload::FilePath, int64_t, int64_t, vidload::FilePath, int64_t, int64_t>;
    make_caster<Part> part;
    if (!part.load(from, true)) return false;
    const auto [file, offset, size, name, listed_size, listed_mtime_ns] = cast_op<Part>(part);
    if (offset < 0 || size < 0) throw vidload::Error(name.native() + ": offset and size of a part must not be negative");
    value = vidload::SourceId(file.native(), offset, size, name.native());
    value.listed = {listed_size, listed_mtime_ns};
    return true;
  }
};

}  // namespace pybind11::detail
