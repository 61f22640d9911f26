#include "device/device.h"

#include <unistd.h>

#include <atomic>
#include <map>
#include <mutex>

#include "transform/transform_cuda.h"

namespace vidload {
namespace {

constexpr CUresult kOutOfMemory = 2;
constexpr unsigned kNonBlockingStream = 1, kNoTiming = 2;  // CU_STREAM_NON_BLOCKING, CU_EVENT_DISABLE_TIMING
constexpr int kComputeCapabilityMajor = 75, kComputeCapabilityMinor = 76;

std::atomic<int64_t> device_bytes{0}, pinned_bytes{0};
std::atomic<int> started_in{0};  // the process that called cuInit

void refuse_forked_child() {
  const int process = started_in.load();
  if (process == 0 || process == getpid()) return;
  throw CudaError(
      "CUDA: this process was forked after CUDA had been started, and CUDA does not survive a fork; start processes with the 'spawn' or "
      "'forkserver' method, or fork before the first batch of a device='cuda' loader");
}

void start_driver() {
  refuse_forked_child();
  const CudaDriver& driver = cuda_driver();
  check_cuda(driver.init(0), "start the driver");
  started_in.store(getpid());
}

// A driver older than the compiler may know no binary of the fatbin and refuse its PTX's version; the kernels use nothing that PTX 6.3
// lacks, so the text may say so.
std::string lowered_ptx() {
  const ByteView ptx = cuda_ptx();
  std::string text(reinterpret_cast<const char*>(ptx.data), ptx.size);
  const size_t at = text.find(".version");
  const size_t end = text.find('\n', at);
  if (at != std::string::npos && end != std::string::npos) text.replace(at, end - at, ".version 6.3");
  return text;
}

CUmodule load_kernels(const CudaDriver& driver) {
  CUmodule module = nullptr;
  const CUresult code = driver.load_module(&module, cuda_fatbin().data);
  if (code == 0) return module;
  if (code != kOutOfMemory && driver.load_module(&module, lowered_ptx().c_str()) == 0) return module;
  check_cuda(code, "load the transform's kernels (compute capability 7.5 or newer is needed)");
  return module;
}

}  // namespace

CudaDevice& CudaDevice::get(int ordinal) {
  static std::mutex* mutex = new std::mutex;
  static auto* devices = new std::map<int, CudaDevice*>;
  refuse_forked_child();
  std::lock_guard<std::mutex> lock(*mutex);
  CudaDevice*& device = (*devices)[ordinal];
  if (!device) device = new CudaDevice(ordinal);
  return *device;
}

CudaDevice::CudaDevice(int ordinal) : ordinal_(ordinal) {
  if (!has_cuda_kernels()) {
    throw CudaError("CUDA: this build of vidload has no CUDA kernels; rebuild it where nvcc (CUDA toolkit 12 or newer) is installed");
  }
  start_driver();
  const CudaDriver& driver = cuda_driver();
  int count = 0;
  check_cuda(driver.device_count(&count), "count the devices");
  if (ordinal < 0 || ordinal >= count) {
    throw CudaError("CUDA: device " + std::to_string(ordinal) + " was asked for; there are " + std::to_string(count) +
                    " (numbered from 0)");
  }
  CUdevice device = 0;
  check_cuda(driver.device(&device, ordinal), "find the device");
  check_cuda(driver.retain_primary_context(&context_, device), "open the device's context");
  const CurrentContext current(*this);
  const CUmodule module = load_kernels(driver);
  for (const DType dtype : {DType::uint8, DType::float16, DType::bfloat16, DType::float32}) {
    check_cuda(driver.module_function(&kernels_[int(dtype)], module, transform_kernel_name(dtype)), "find the transform's kernel");
  }
}

std::vector<CudaDeviceInfo> cuda_devices(int* driver_version) {
  start_driver();
  const CudaDriver& driver = cuda_driver();
  check_cuda(driver.driver_version(driver_version), "ask for the driver's version");
  int count = 0;
  check_cuda(driver.device_count(&count), "count the devices");
  std::vector<CudaDeviceInfo> infos(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    CudaDeviceInfo& info = infos[size_t(i)];
    CUdevice device = 0;
    char name[256] = {}, address[32] = {};
    size_t bytes = 0;
    check_cuda(driver.device(&device, i), "find the device");
    check_cuda(driver.device_name(name, sizeof name, device), "ask for the device's name");
    check_cuda(driver.device_pci_address(address, sizeof address, device), "ask for the device's PCI address");
    check_cuda(driver.device_attribute(&info.major, kComputeCapabilityMajor, device), "ask for the compute capability");
    check_cuda(driver.device_attribute(&info.minor, kComputeCapabilityMinor, device), "ask for the compute capability");
    check_cuda(driver.device_memory(&bytes, device), "ask for the device's memory");
    info.name = name;
    info.pci_address = address;
    info.memory_bytes = int64_t(bytes);
  }
  return infos;
}

CurrentContext::CurrentContext(const CudaDevice& device) {
  refuse_forked_child();
  check_cuda(cuda_driver().push_context(device.context()), "enter the device's context");
}

CurrentContext::~CurrentContext() {
  CUcontext ignored = nullptr;
  cuda_driver().pop_context(&ignored);
}

CudaStream::CudaStream() { check_cuda(cuda_driver().create_stream(&stream_, kNonBlockingStream), "create a stream"); }

CudaStream::~CudaStream() {
  if (stream_) cuda_driver().destroy_stream(stream_);
}

CudaEvent::CudaEvent() { check_cuda(cuda_driver().create_event(&event_, kNoTiming), "create an event"); }

CudaEvent::~CudaEvent() {
  if (event_) cuda_driver().destroy_event(event_);
}

void CudaEvent::record(CUstream stream) { check_cuda(cuda_driver().record_event(event_, stream), "record an event"); }
void CudaEvent::synchronize() { check_cuda(cuda_driver().synchronize_event(event_), "wait for an event"); }
void CudaEvent::hold(CUstream stream) { check_cuda(cuda_driver().stream_wait_event(stream, event_, 0), "make a stream wait for an event"); }

DeviceMemory::~DeviceMemory() {
  if (memory_) cuda_driver().free(memory_);
  device_bytes -= int64_t(size_);
}

void DeviceMemory::reserve(size_t bytes) {
  if (bytes <= size_) return;
  if (memory_) check_cuda(cuda_driver().free(memory_), "free device memory");
  memory_ = 0;
  device_bytes -= int64_t(size_);
  size_ = 0;
  check_cuda(cuda_driver().allocate(&memory_, bytes), "allocate device memory");
  size_ = bytes;
  device_bytes += int64_t(bytes);
}

PinnedMemory::~PinnedMemory() {
  if (memory_) cuda_driver().free_pinned(memory_);
  pinned_bytes -= int64_t(size_);
}

void PinnedMemory::reserve(size_t bytes) {
  if (bytes <= size_) return;
  if (memory_) check_cuda(cuda_driver().free_pinned(memory_), "free pinned memory");
  memory_ = nullptr;
  pinned_bytes -= int64_t(size_);
  size_ = 0;
  void* memory = nullptr;
  check_cuda(cuda_driver().allocate_pinned(&memory, bytes), "allocate pinned memory");
  memory_ = static_cast<uint8_t*>(memory);
  size_ = bytes;
  pinned_bytes += int64_t(bytes);
}

CudaMemoryHeld cuda_memory_held() { return {device_bytes.load(), pinned_bytes.load()}; }

}  // namespace vidload
