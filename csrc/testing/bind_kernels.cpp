// The CUDA kernels' bytes and host twin, and how long their launches take: for tests, a stub driver and benches.
#include <pybind11/pybind11.h>

#include <chrono>

#include "bindings/bindings.h"
#include "device/device_transform.h"
#include "testing/testing.h"
#include "transform/transform_cuda.h"

namespace py = pybind11;

namespace vidload {
namespace {

// Seconds of `num_launches` launches, each making `num_pictures` outputs of 3 x out_height x out_width float16 from one 8-bit 4:2:0
// picture.
double time_kernel(int ordinal, int height, int width, int out_height, int out_width, int num_pictures, int num_launches) {
  const CudaDevice& device = CudaDevice::get(ordinal);
  const CurrentContext current(device);
  DeviceMemory planes, out;
  planes.reserve(size_t(height) * size_t(width) * 3 / 2);
  const size_t out_bytes = size_t{6} * size_t(out_height) * size_t(out_width);
  out.reserve(out_bytes * size_t(num_pictures));
  const auto* luma = reinterpret_cast<const uint8_t*>(planes.get());
  const uint8_t* chroma = luma + ptrdiff_t{height} * width;
  PictureView picture = {};
  picture.width = width, picture.height = height, picture.num_planes = 3;
  picture.planes[0] = {luma, width, 1, width, height};
  picture.planes[1] = {chroma, width, 2, width / 2, height / 2};
  picture.planes[2] = {chroma + 1, width, 2, width / 2, height / 2};
  picture.bytes_per_sample = 1, picture.bit_depth = 8;
  picture.chroma_scale_x = picture.chroma_scale_y = 2;
  picture.chroma_offset_x = 0.5, picture.chroma_offset_y = 1;
  TransformSpec spec = {};
  spec.height = out_height, spec.width = out_width, spec.dtype = DType::float16, spec.antialias = true;
  std::vector<DevicePlacement> placements;
  for (int i = 0; i < num_pictures; ++i) {
    auto* to = reinterpret_cast<uint8_t*>(out.get()) + size_t(i) * out_bytes;
    placements.push_back({0, {0, 0, double(height), double(width), false}, {to, ptrdiff_t{out_height} * out_width, out_width, 1}});
  }
  DeviceTransform transform(device);
  transform.run(spec, picture, PictureMemory::device, placements);  // tables, and the first launch
  transform.synchronize();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < num_launches; ++i) transform.run(spec, picture, PictureMemory::device, placements);
  transform.synchronize();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void host_kernel(const char* name, const PictureDescriptor* descriptors, int count) {
  for (const DType dtype : {DType::uint8, DType::float16, DType::bfloat16, DType::float32}) {
    if (std::string(name) == transform_kernel_name(dtype)) transform_on_host(descriptors, count, dtype);
  }
}

py::bytes to_bytes(const ByteView& view) { return {reinterpret_cast<const char*>(view.data), view.size}; }

}  // namespace

void bind_kernels(py::module_& module) {
  module.attr("CUDA_DESCRIPTOR_BYTES") = sizeof(PictureDescriptor);
  module.attr("CUDA_BLOCK") = py::make_tuple(kBlockWidth, kBlockHeight, 1);
  module.def("cuda_fatbin", [] { return to_bytes(cuda_fatbin()); }, "The kernels for every architecture; empty without them.");
  module.def("cuda_ptx", [] { return to_bytes(cuda_ptx()); }, "The kernels as PTX text; empty without them.");
  module.def(
      "host_kernel_address", [] { return reinterpret_cast<uintptr_t>(&host_kernel); },
      "The kernels' host twin, for a stub driver: void (*)(kernel's name, descriptors, number of them).");
  module.def("time_kernel", &time_kernel, py::arg("device"), py::arg("height"), py::arg("width"), py::arg("out_height"),
             py::arg("out_width"), py::arg("num_pictures"), py::arg("num_launches"), py::call_guard<GilRelease>(),
             "Seconds that the transform's launches take, pictures being on the GPU already.");
}

}  // namespace vidload
