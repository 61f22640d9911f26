#include "testing/testing.h"

namespace py = pybind11;

PYBIND11_MODULE(_testing, module, py::mod_gil_not_used()) {
  using namespace vidload;
  py::module_::import("vidload._core");  // has the types and the exceptions that are passed here
  bind_transform(module);
  bind_kernels(module);
  bind_floor(module);
  bind_drawn(module);
  bind_fake_decoder(module);
}
