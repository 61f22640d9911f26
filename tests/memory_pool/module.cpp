// The pool alone as a module, for an interpreter that has neither torch nor this package.
#include "bindings/bindings.h"

PYBIND11_MODULE(memory_pool, module, pybind11::mod_gil_not_used()) { vidload::bind_memory(module); }
