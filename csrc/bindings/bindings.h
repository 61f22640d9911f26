// bindings: one function a stage, called by module.cpp in flow order. Each converts types, releases the GIL and calls.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <string>

#include "base/cancel.h"
#include "base/error.h"
#include "batch/cuda_target.h"

namespace vidload {

void bind_index(pybind11::module_& module);
void bind_reader(pybind11::module_& module);
void bind_transform(pybind11::module_& module);
void bind_cuda(pybind11::module_& module);
void bind_loader(pybind11::module_& module);
void bind_floor(pybind11::module_& module);
void bind_memory(pybind11::module_& module);

// "auto", "cpu" or "nvdec". Throws Error for any other name.
CudaDecoding cuda_decoding(const std::string& name);

// Set when a signal handler of Python's (Ctrl-C) raises: is_set() then throws what it raised. For work of the calling thread that runs
// without the GIL.
const Cancel& python_signals();

// File names cross as the operating system has them: Python's os.fsencode one way (the caster of FilePath), os.fsdecode the other. They
// need not be UTF-8.
using FilePath = std::filesystem::path;
pybind11::object file_name(const std::string& name);

// The Python exception (vidload.errors) that says the same.
pybind11::object python_error(const VideoError& error);

}  // namespace vidload
