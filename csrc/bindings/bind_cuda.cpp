// What this build and this machine can do with CUDA, and what the tests need to stand in for a GPU.
#include <pybind11/stl.h>

#include <chrono>

#include "bindings/bindings.h"
#include "cuda/nvdec_caps.h"
#include "cuda/nvdec_decoder.h"
#include "transform/transform_cuda.h"

namespace py = pybind11;

namespace vidload {
namespace {

py::dict caps_dict(const NvdecCaps& caps) {
  py::dict result;
  result["min_width"] = caps.min_width;
  result["min_height"] = caps.min_height;
  result["max_width"] = caps.max_width;
  result["max_height"] = caps.max_height;
  result["max_macroblocks"] = caps.max_macroblocks;
  result["num_engines"] = caps.num_engines;
  return result;
}

py::tuple devices() {
  int version = 0;
  py::list result;
  for (const CudaDeviceInfo& info : cuda_devices(&version)) {
    py::dict device;
    device["name"] = info.name;
    device["compute_capability"] = std::to_string(info.major) + "." + std::to_string(info.minor);
    device["memory_bytes"] = info.memory_bytes;
    result.append(device);
  }
  return py::make_tuple(version, result);
}

py::dict nvdec_capabilities(int ordinal) {
  const CudaDevice& device = CudaDevice::get(ordinal);
  const CurrentContext current(device);
  static const char* const chroma_names[] = {"", "4:2:0", "4:2:2", "4:4:4"};
  py::dict result;
  for (const std::string& codec : nvdec_codecs()) {
    py::dict kinds;
    for (int chroma = 1; chroma <= 3; ++chroma) {
      for (const int depth : {8, 10, 12}) {
        const auto caps = nvdec_caps(device, codec, chroma, depth);
        if (!caps || !caps->is_supported) continue;
        kinds[py::str(std::string(chroma_names[chroma]) + " " + std::to_string(depth) + " bit")] = caps_dict(*caps);
      }
    }
    if (!kinds.empty()) result[py::str(codec)] = kinds;
  }
  return result;
}

void set_max_decoders(int ordinal, int count) {
  const CudaDevice& device = CudaDevice::get(ordinal);
  const CurrentContext current(device);
  NvdecPool::of(device).set_max_decoders(count);
}

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

}  // namespace

CudaDecoding cuda_decoding(const std::string& name) {
  if (name == "auto") return CudaDecoding::automatic;
  if (name == "cpu") return CudaDecoding::cpu;
  if (name == "nvdec") return CudaDecoding::nvdec;
  throw Error("decoder '" + name + "' is not one of auto, cpu, nvdec");
}

void bind_cuda(py::module_& module) {
  module.attr("CUDA_DESCRIPTOR_BYTES") = sizeof(PictureDescriptor);
  module.def("has_cuda_kernels", &has_cuda_kernels, "Whether this build has compiled kernels.");
  module.def("why_no_cuda_driver", &why_no_cuda_driver, "Empty if there is a driver. Starts nothing.");
  module.def("cuda_devices", &devices,
             "(driver's CUDA version as 1000 * major + 10 * minor, a dict for each device). Starts CUDA. Raises RuntimeError.");
  module.def("nvdec_capabilities", &nvdec_capabilities, py::arg("device"),
             "{codec: {'4:2:0 8 bit': limits}} of what NVDEC of that GPU decodes. Starts CUDA. Raises RuntimeError.");
  module.def("num_nvdec_decoders", [](int device) { return NvdecPool::of(CudaDevice::get(device)).num_decoders(); }, py::arg("device"));
  module.def("set_max_nvdec_decoders", &set_max_decoders, py::arg("device"), py::arg("count"), py::call_guard<GilRelease>(),
             "How many NVDEC decoders the process may have open on a GPU.");
  module.def(
      "cuda_memory_held",
      [] {
        const CudaMemoryHeld held = cuda_memory_held();
        return std::make_pair(held.device_bytes, held.pinned_bytes);
      },
      "(device bytes, pinned bytes) held for staging, tables and descriptors, in the whole process.");
  module.def("time_kernel", &time_kernel, py::arg("device"), py::arg("height"), py::arg("width"), py::arg("out_height"),
             py::arg("out_width"), py::arg("num_pictures"), py::arg("num_launches"), py::call_guard<GilRelease>(),
             "Seconds that the transform's launches take, pictures being on the GPU already.");
  module.def(
      "host_kernel_address", [] { return reinterpret_cast<uintptr_t>(&host_kernel); },
      "The kernels' host twin, for a stub driver: void (*)(kernel's name, descriptors, number of them).");
}

}  // namespace vidload
