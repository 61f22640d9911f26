// testing: the module vidload._testing, instruments for tests and benches: single steps of the core on arrays, and what stands in for
// hardware. It is built beside _core from the same libraries, so it has its own copy of what they keep for the process; wheels have none.
#pragma once

#include <pybind11/pybind11.h>

namespace vidload {

void bind_transform(pybind11::module_& module);
void bind_kernels(pybind11::module_& module);
void bind_floor(pybind11::module_& module);
void bind_drawn(pybind11::module_& module);
void bind_fake_decoder(pybind11::module_& module);

}  // namespace vidload
