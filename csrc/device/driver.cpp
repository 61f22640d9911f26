#include "device/driver.h"

#include <dlfcn.h>

#include <atomic>
#include <memory>

namespace vidload {
namespace {

std::atomic<const CudaDriver*> loaded{nullptr};  // never freed: threads may still use it while the process exits

// Returns what is missing, or an empty string. A failure is not kept: a driver may be there at the next call.
std::string load() {
  if (loaded.load()) return "";
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return "no CUDA driver on this machine (libcuda.so.1 cannot be loaded)";
  auto driver = std::make_unique<CudaDriver>();
#define VIDLOAD_CUDA_LOAD(member, name, arguments)                                \
  driver->member = reinterpret_cast<CUresult(*) arguments>(dlsym(library, name)); \
  if (!driver->member) return "the CUDA driver is too old: libcuda.so.1 has no " name;
  VIDLOAD_CUDA_FUNCTIONS(VIDLOAD_CUDA_LOAD)
#undef VIDLOAD_CUDA_LOAD
  const CudaDriver* none = nullptr;
  if (loaded.compare_exchange_strong(none, driver.get())) driver.release();
  return "";
}

}  // namespace

std::string why_no_cuda_driver() { return load(); }

const CudaDriver& cuda_driver() {
  if (const CudaDriver* driver = loaded.load()) return *driver;
  const std::string problem = load();
  if (!problem.empty()) throw CudaError("CUDA: " + problem);
  return *loaded.load();
}

void check_cuda(CUresult code, const char* action) {
  if (code == 0) return;
  const char *name = nullptr, *text = nullptr;
  cuda_driver().error_name(code, &name);
  cuda_driver().error_string(code, &text);
  throw CudaError(
      std::string("CUDA: cannot ") + action + ": " + (name ? name : "unknown error") + " (" + (text ? text : std::to_string(code)) + ")",
      code);
}

}  // namespace vidload
