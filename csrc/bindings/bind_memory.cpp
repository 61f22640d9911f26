// The memory of batches. A Buffer is what tensors and arrays hold, through Python's buffer protocol or through DLPack; when the last of
// them lets go of it, its destructor gives the memory back. It needs neither torch nor NumPy, so that any interpreter can check it.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
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

// DLPack 0.x, as `from_dlpack` of torch and NumPy takes it: the parts of dlpack.h that a contiguous tensor of the host needs.
struct DLManagedTensor {
  struct {
    void* data;
    struct {
      int32_t type, id;
    } device;
    int32_t ndim;
    struct {
      uint8_t code, bits;
      uint16_t lanes;
    } dtype;
    int64_t* shape;
    int64_t* strides;
    uint64_t byte_offset;
  } tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};

// Its memory is of the pool, or numbers of its own.
struct LentTensor {
  DLManagedTensor managed = {};
  std::vector<int64_t> shape;
  std::unique_ptr<MemoryPool::Buffer> buffer;
  std::vector<uint64_t> numbers;
};

// Whatever thread lets go of the tensor last frees `lent`, with or without the GIL.
py::capsule capsule_of(std::unique_ptr<LentTensor> lent, void* data, int type_code, int bits) {
  constexpr int32_t kHost = 1;
  auto& tensor = lent->managed.tensor;
  tensor.data = data;
  tensor.device = {kHost, 0};
  tensor.ndim = int32_t(lent->shape.size());
  tensor.dtype = {uint8_t(type_code), uint8_t(bits), 1};
  tensor.shape = lent->shape.data();
  lent->managed.context = lent.get();
  lent->managed.deleter = [](DLManagedTensor* managed) { delete static_cast<LentTensor*>(managed->context); };
  py::capsule capsule(&lent->managed, "dltensor", [](PyObject* unused) {
    // One that was taken is called "used_dltensor", and its taker calls the deleter.
    if (!PyCapsule_IsValid(unused, "dltensor")) return;
    auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(unused, "dltensor"));
    managed->deleter(managed);
  });
  lent.release();
  return capsule;
}

py::capsule take_tensor(MemoryPool& pool, std::vector<int64_t> shape, int type_code, int bits) {
  int64_t num_bytes = bits / 8;
  for (const int64_t length : shape) num_bytes *= length;
  auto lent = std::make_unique<LentTensor>();
  lent->shape = std::move(shape);
  lent->buffer = pool.take(size_t(num_bytes));
  if (!lent->buffer->is_host()) throw Error("tensors are made of the host's memory alone");
  void* data = lent->buffer->data();
  return capsule_of(std::move(lent), data, type_code, bits);
}

py::capsule rows_of(const py::buffer& column, const std::vector<int64_t>& rows) {
  constexpr int kInteger = 0, kFloat = 2;  // DLPack's codes
  const py::buffer_info info = column.request();
  const bool is_integer = info.item_type_is_equivalent_to<int64_t>(), is_float = info.item_type_is_equivalent_to<double>();
  if (info.ndim != 1 || info.strides[0] != info.itemsize || !(is_integer || is_float))
    throw Error("a column must be contiguous int64 or float64 [N]");
  auto lent = std::make_unique<LentTensor>();
  lent->shape = {int64_t(rows.size())};
  lent->numbers.reserve(rows.size());
  for (const int64_t row : rows) {
    if (row < 0 || row >= info.size)
      throw py::index_error("row " + std::to_string(row) + " is out of range [0, " + std::to_string(info.size) + ")");
    lent->numbers.push_back(static_cast<const uint64_t*>(info.ptr)[row]);
  }
  void* data = lent->numbers.data();
  return capsule_of(std::move(lent), data, is_integer ? kInteger : kFloat, 64);
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
      .def("take_tensor", &take_tensor, py::arg("shape"), py::arg("type_code"), py::arg("bits"),
           "A DLPack capsule of a contiguous tensor in the host's memory; the codes are DLPack's: 1 unsigned, 2 float, 4 bfloat.")
      .def_property_readonly("num_bytes", &MemoryPool::num_bytes, "Of all blocks, those that are held and those that are free.");
  module.def("rows_of", &rows_of, py::arg("column"), py::arg("rows"),
             "A DLPack capsule of some rows of a column, int64 or float64 [N]. To from_dlpack right after a batch's own memory costs a "
             "fraction of "
             "NumPy's indexing and torch's from_numpy, whose code the decoding has driven out of the caches.");
}

}  // namespace vidload
