// The pool alone as a module, for an interpreter that has neither torch nor this package.
#include "bindings/bindings.h"

PYBIND11_MODULE(memory_pool, module) { vidload::bind_memory(module); }
