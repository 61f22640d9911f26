// The memory of batches. A Buffer is what tensors and arrays hold, through Python's buffer protocol; when the last of them lets go of it,
// its destructor gives the memory back. It needs neither torch nor NumPy, so that any interpreter can check it.
#include <pybind11/pybind11.h>

#include "base/memory_pool.h"
#include "bindings/bindings.h"

namespace py = pybind11;

namespace vidload {
namespace {

// A block that a Python function allocates: it returns (address, owner), and the owner is let go of with the block.
MemoryPool::Allocate allocate_by(const py::function& allocate) {
  const auto function = std::make_shared<py::function>(allocate);
  return [function](size_t size) {
    const py::tuple made = (*function)(size);
    auto* address = reinterpret_cast<uint8_t*>(made[0].cast<uintptr_t>());
    // Blocks are taken, given back and freed by calls from Python alone, so with the GIL.
    return std::shared_ptr<uint8_t>(address, [owner = py::object(made[1])](uint8_t*) {});
  };
}

}  // namespace

void bind_memory(py::module_& module) {
  py::class_<MemoryPool::Buffer>(module, "Buffer", py::buffer_protocol(),
                                 "Memory of a pool, which gets it back when nobody holds this object or a view of it any more.")
      .def_property_readonly("nbytes", &MemoryPool::Buffer::size)
      .def_property_readonly("address", [](const MemoryPool::Buffer& buffer) { return reinterpret_cast<uintptr_t>(buffer.data()); })
      .def_buffer([](MemoryPool::Buffer& buffer) {
        if (!buffer.is_host()) throw py::buffer_error("this is memory of a device, which the processor cannot read");
        return py::buffer_info(buffer.data(), py::ssize_t(buffer.size()));
      });

  py::class_<MemoryPool, std::shared_ptr<MemoryPool>>(module, "MemoryPool", "Blocks of memory that are used again.")
      .def(py::init([](const py::object& allocate) {
             const bool is_host = allocate.is_none();
             return MemoryPool::make(is_host ? MemoryPool::Allocate(allocate_host) : allocate_by(allocate), is_host);
           }),
           py::arg("allocate") = py::none(), "allocate(nbytes) -> (address, owner) makes a block; None: memory of the host.")
      .def("take", &MemoryPool::take, py::arg("nbytes"))
      .def_property_readonly("num_bytes", &MemoryPool::num_bytes, "Of all blocks, those that are held and those that are free.");
}

}  // namespace vidload
