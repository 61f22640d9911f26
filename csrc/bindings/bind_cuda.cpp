// What this build and this machine can do with CUDA.
#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "nvdec/nvdec_caps.h"
#include "nvdec/nvdec_decoder.h"
#include "nvdec/nvdec_decoders.h"
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
    device["pci_address"] = info.pci_address;
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
  nvdec_decoders(device).decoders().set_max_decoders(count);
}

}  // namespace

void bind_cuda(py::module_& module) {
  module.def("has_cuda_kernels", &has_cuda_kernels, "Whether this build has compiled kernels.");
  module.def("why_no_cuda_driver", &why_no_cuda_driver, "Empty if there is a driver. Starts nothing.");
  module.def("cuda_devices", &devices,
             "(driver's CUDA version as 1000 * major + 10 * minor, a dict for each device). Starts CUDA. Raises RuntimeError.");
  module.def("nvdec_capabilities", &nvdec_capabilities, py::arg("device"),
             "{codec: {'4:2:0 8 bit': limits}} of what NVDEC of that GPU decodes. Starts CUDA. Raises RuntimeError.");
  module.def("ffmpeg_nvdec_codecs", &ffmpeg_nvdec_codecs,
             "The codecs that vidload uses NVDEC for and this FFmpeg was built to decode by it. Starts nothing.");
  module.def(
      "num_nvdec_decoders", [](int device) { return nvdec_decoders(CudaDevice::get(device)).decoders().num_decoders(); },
      py::arg("device"));
  module.def("set_max_nvdec_decoders", &set_max_decoders, py::arg("device"), py::arg("count"), py::call_guard<GilRelease>(),
             "How many NVDEC decoders the process may have open on a GPU, and use at once.");
  module.def(
      "cuda_memory_held",
      [] {
        const CudaMemoryHeld held = cuda_memory_held();
        return std::make_pair(held.device_bytes, held.pinned_bytes);
      },
      "(device bytes, pinned bytes) held for staging, tables and descriptors, in the whole process.");
}

}  // namespace vidload
