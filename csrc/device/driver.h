// driver: the CUDA driver API as a table of functions, loaded from libcuda.so.1 at first use. No CUDA header, no cudart: the extension is
// built and imported without a driver, and a stub library can stand in for it. Names and layouts are those of NVIDIA's cuda.h.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

extern "C" {
typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st* CUcontext;
typedef struct CUstream_st* CUstream;
typedef struct CUevent_st* CUevent;
typedef struct CUmod_st* CUmodule;
typedef struct CUfunc_st* CUfunction;
}

namespace vidload {

// A failure of CUDA itself: RuntimeError in Python.
class CudaError : public std::runtime_error {
 public:
  explicit CudaError(const std::string& text, CUresult code = 0) : std::runtime_error(text), code_(code) {}
  CUresult code() const { return code_; }  // 0 when no call failed

 private:
  CUresult code_;
};

// X(member, exported name, argument types)
#define VIDLOAD_CUDA_FUNCTIONS(X)                                                                                                  \
  X(init, "cuInit", (unsigned flags))                                                                                              \
  X(driver_version, "cuDriverGetVersion", (int* version))                                                                          \
  X(error_name, "cuGetErrorName", (CUresult code, const char** text))                                                              \
  X(error_string, "cuGetErrorString", (CUresult code, const char** text))                                                          \
  X(device_count, "cuDeviceGetCount", (int* count))                                                                                \
  X(device, "cuDeviceGet", (CUdevice * device, int ordinal))                                                                       \
  X(device_name, "cuDeviceGetName", (char* name, int size, CUdevice device))                                                       \
  X(device_attribute, "cuDeviceGetAttribute", (int* value, int attribute, CUdevice device))                                        \
  X(device_pci_address, "cuDeviceGetPCIBusId", (char* address, int size, CUdevice device))                                         \
  X(device_memory, "cuDeviceTotalMem_v2", (size_t* bytes, CUdevice device))                                                        \
  X(retain_primary_context, "cuDevicePrimaryCtxRetain", (CUcontext * context, CUdevice device))                                    \
  X(push_context, "cuCtxPushCurrent_v2", (CUcontext context))                                                                      \
  X(pop_context, "cuCtxPopCurrent_v2", (CUcontext * context))                                                                      \
  X(allocate, "cuMemAlloc_v2", (CUdeviceptr * memory, size_t bytes))                                                               \
  X(free, "cuMemFree_v2", (CUdeviceptr memory))                                                                                    \
  X(allocate_pinned, "cuMemAllocHost_v2", (void** memory, size_t bytes))                                                           \
  X(free_pinned, "cuMemFreeHost", (void* memory))                                                                                  \
  X(copy_to_device_async, "cuMemcpyHtoDAsync_v2", (CUdeviceptr to, const void* from, size_t bytes, CUstream stream))               \
  X(create_stream, "cuStreamCreate", (CUstream * stream, unsigned flags))                                                          \
  X(destroy_stream, "cuStreamDestroy_v2", (CUstream stream))                                                                       \
  X(synchronize_stream, "cuStreamSynchronize", (CUstream stream))                                                                  \
  X(stream_wait_event, "cuStreamWaitEvent", (CUstream stream, CUevent event, unsigned flags))                                      \
  X(create_event, "cuEventCreate", (CUevent * event, unsigned flags))                                                              \
  X(destroy_event, "cuEventDestroy_v2", (CUevent event))                                                                           \
  X(record_event, "cuEventRecord", (CUevent event, CUstream stream))                                                               \
  X(synchronize_event, "cuEventSynchronize", (CUevent event))                                                                      \
  X(load_module, "cuModuleLoadData", (CUmodule * module, const void* image))                                                       \
  X(module_function, "cuModuleGetFunction", (CUfunction * function, CUmodule module, const char* name))                            \
  X(launch_kernel, "cuLaunchKernel",                                                                                               \
    (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z, \
     unsigned shared_bytes, CUstream stream, void** parameters, void** extra))

struct CudaDriver {
#define VIDLOAD_CUDA_MEMBER(member, name, arguments) CUresult(*member) arguments;
  VIDLOAD_CUDA_FUNCTIONS(VIDLOAD_CUDA_MEMBER)
#undef VIDLOAD_CUDA_MEMBER
};

// The table, from the first call on. Throws CudaError that says why there is none. Initializes nothing.
const CudaDriver& cuda_driver();

// Why there is no driver, or an empty string. Loads the library, initializes nothing.
std::string why_no_cuda_driver();

// Throws CudaError "CUDA: cannot <action>: <the driver's words>" unless the call succeeded.
void check_cuda(CUresult code, const char* action);

}  // namespace vidload
