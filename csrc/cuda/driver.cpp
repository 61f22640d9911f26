#include "cuda/driver.h"

#include <dlfcn.h>

namespace vidload {
namespace {

struct Loaded {
  CudaDriver driver = {};
  std::string problem;
};

Loaded load() {
  Loaded loaded;
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    loaded.problem = "no CUDA driver on this machine (libcuda.so.1 cannot be loaded)";
    return loaded;
  }
#define VIDLOAD_CUDA_LOAD(member, name, arguments)                                              \
  loaded.driver.member = reinterpret_cast<CUresult(*) arguments>(dlsym(library, name));         \
  if (!loaded.driver.member) {                                                                  \
    loaded.problem = "the CUDA driver is too old: libcuda.so.1 has no " name;                   \
    return loaded;                                                                              \
  }
  VIDLOAD_CUDA_FUNCTIONS(VIDLOAD_CUDA_LOAD)
#undef VIDLOAD_CUDA_LOAD
  return loaded;
}

const Loaded& loaded() {
  static const Loaded* once = new Loaded(load());  // never freed: threads may still use it while the process exits
  return *once;
}

}  // namespace

std::string why_no_cuda_driver() { return loaded().problem; }

const CudaDriver& cuda_driver() {
  if (!loaded().problem.empty()) throw CudaError("CUDA: " + loaded().problem);
  return loaded().driver;
}

void check_cuda(CUresult code, const char* action) {
  if (code == 0) return;
  const char *name = nullptr, *text = nullptr;
  loaded().driver.error_name(code, &name);
  loaded().driver.error_string(code, &text);
  throw CudaError(std::string("CUDA: cannot ") + action + ": " + (name ? name : "unknown error") + " (" +
                      (text ? text : std::to_string(code)) + ")",
                  code);
}

}  // namespace vidload
