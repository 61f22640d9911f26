// A stand-in for libcuda.so.1 in host memory, so that tests run the GPU path without a GPU. Kernels run as their host twin. Streams may be
// lazy: work then runs only when something waits for it, so that a missing wait shows as wrong pixels. Device memory faults when the host
// touches it, is poisoned when fresh, and is followed by a guard page.
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "stub.h"
#include "transform/transform_cuda.h"

namespace {

struct Context {
  int device;
};
struct Stream {
  int device = 0;
  std::deque<std::function<void()>> queue;
  long head = 0, tail = 0;  // works done, works queued
};
struct Event {
  Stream* stream = nullptr;
  long position = 0;
};

std::mutex mutex;  // of all plain state below
std::map<std::string, long> counters;
struct Fault {
  long countdown;
  CUresult code;
};
std::map<std::string, Fault> faults;
CUresult lost = kSuccess;  // once set, what every call returns: some errors make a context useless for good
constexpr bool is_sticky(CUresult code) { return code >= 700 && code < 720; }
std::map<CUdeviceptr, std::pair<void*, size_t>> allocations;  // device address -> mapping
constexpr CUdeviceptr kArenaBegin = 0x200000000000, kArenaBytes = CUdeviceptr{64} << 30;
CUdeviceptr next_address = kArenaBegin;

// Where the arena really is; nothing is mapped at the addresses that are handed out.
uint8_t* arena() {
  static uint8_t* const reserved =
      static_cast<uint8_t*>(mmap(nullptr, kArenaBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  return reserved;
}

std::recursive_mutex stream_mutex;  // of streams and events; held while work runs
bool is_lazy = false;
Stream default_streams[16];
std::vector<Stream*> created_streams;

std::atomic<int> num_devices{1};
std::atomic<int> max_delay_us{0};
Context contexts[16];
thread_local std::vector<Context*> stack;

using HostKernel = void (*)(const char* name, const vidload::PictureDescriptor* descriptors, int count);
HostKernel host_kernel = nullptr;

Context* current() { return stack.empty() ? nullptr : stack.back(); }
CUcontext handle(Context* context) { return reinterpret_cast<CUcontext>(context); }

Stream& stream_of(CUstream stream) {
  if (stream) return *reinterpret_cast<Stream*>(stream);
  const int device = current() ? current()->device : 0;
  return default_streams[device];
}

void drain(Stream& stream, long position) {
  std::lock_guard<std::recursive_mutex> lock(stream_mutex);
  while (stream.head < position && !stream.queue.empty()) {
    const auto work = std::move(stream.queue.front());
    stream.queue.pop_front();
    ++stream.head;
    work();
  }
}

// Waits of the host that found work undone.
void wait_for(Stream& stream, long position) {
  {
    std::lock_guard<std::recursive_mutex> lock(stream_mutex);
    if (stream.head < position) stub::count("host_waits", 1);
  }
  drain(stream, position);
}

CUresult copy(void* to, const void* from, size_t bytes, CUstream stream, bool is_async) {
  if (!current()) return kInvalidContext;
  auto* target = stub::reachable(CUdeviceptr(to));
  const auto* source = stub::reachable(CUdeviceptr(from));
  if (is_async) {
    if (target != to) stub::count("bytes_uploaded", long(bytes));
    stub::post(stream, [=] { std::memcpy(target, source, bytes); });
  } else {
    Stream& s = stream_of(nullptr);
    wait_for(s, s.tail);
    std::memcpy(target, source, bytes);
  }
  return kSuccess;
}

}  // namespace

namespace stub {

CUresult enter(const char* function) {
  if (const int most = max_delay_us.load()) {
    thread_local std::minstd_rand random(std::hash<std::thread::id>()(std::this_thread::get_id()));
    if (random() % 4 == 0) usleep(random() % unsigned(most));
  }
  std::lock_guard<std::mutex> lock(mutex);
  ++counters[function];
  if (lost != kSuccess) return lost;
  const auto found = faults.find(function);
  if (found == faults.end()) return kSuccess;
  const CUresult code = found->second.code;
  if (found->second.countdown > 0) {  // 0: for good
    if (--found->second.countdown > 0) return kSuccess;
    faults.erase(found);
  }
  if (is_sticky(code)) lost = code;
  return code;
}

void count(const char* name, long amount) {
  std::lock_guard<std::mutex> lock(mutex);
  counters[name] += amount;
}

bool has_context() { return current() != nullptr; }

void post(CUstream handle, std::function<void()> work) {
  std::lock_guard<std::recursive_mutex> lock(stream_mutex);
  Stream& stream = stream_of(handle);
  stream.queue.push_back(std::move(work));
  ++stream.tail;
  if (!is_lazy) drain(stream, stream.tail);
}

void finish(CUstream handle) {
  Stream& stream = stream_of(handle);
  drain(stream, stream.tail);
}

uint8_t* reachable(CUdeviceptr memory) {
  const bool is_device = memory >= kArenaBegin && memory < kArenaBegin + kArenaBytes;
  return is_device ? arena() + (memory - kArenaBegin) : reinterpret_cast<uint8_t*>(memory);
}

CUdeviceptr allocate(size_t bytes) {
  const auto page = size_t(sysconf(_SC_PAGESIZE));
  const size_t used = (bytes + 255) / 256 * 256, mapped = (used + page - 1) / page * page;
  std::lock_guard<std::mutex> lock(mutex);
  uint8_t* base = reachable(next_address);
  if (next_address + mapped + page > kArenaBegin + kArenaBytes || mprotect(base, mapped, PROT_READ | PROT_WRITE) != 0) return 0;
  std::memset(base, 0xCD, mapped);
  const CUdeviceptr address = next_address + (mapped - used);  // so that what follows is not mapped
  next_address += mapped + page;
  allocations[address] = {base, mapped};
  ++counters["live_allocations"];
  return address;
}

bool release(CUdeviceptr memory) {
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = allocations.find(memory);
  if (found == allocations.end()) return false;
  madvise(found->second.first, found->second.second, MADV_DONTNEED);
  mprotect(found->second.first, found->second.second, PROT_NONE);
  allocations.erase(found);
  --counters["live_allocations"];
  return true;
}

}  // namespace stub

// ---- what tests call ----

extern "C" STUB_EXPORT void stub_set_lazy(int on) { is_lazy = on; }
extern "C" STUB_EXPORT void stub_set_num_devices(int count) {
  num_devices = count;
  for (int i = 0; i < count; ++i) default_streams[i].device = i;
}
extern "C" STUB_EXPORT void stub_set_delay_us(int most) { max_delay_us = most; }
extern "C" STUB_EXPORT void stub_set_host_kernel(void* function) { host_kernel = reinterpret_cast<HostKernel>(function); }
// The nth call from now on returns `code`; 0: every call. After a code that loses the device, so does every call of every function.
extern "C" STUB_EXPORT void stub_fail(const char* function, long nth, int code) {
  std::lock_guard<std::mutex> lock(mutex);
  faults[function] = {nth, code};
}
extern "C" STUB_EXPORT void stub_succeed() {
  std::lock_guard<std::mutex> lock(mutex);
  faults.clear();
  lost = kSuccess;
}
extern "C" STUB_EXPORT long stub_counter(const char* name) {
  std::lock_guard<std::mutex> lock(mutex);
  return counters[name];
}
extern "C" STUB_EXPORT int stub_context_depth() { return int(stack.size()); }
// Device address, host address and bytes of every live allocation, three numbers each; returns how many there are.
extern "C" STUB_EXPORT int stub_list_allocations(unsigned long long* table, int capacity) {
  std::lock_guard<std::mutex> lock(mutex);
  int count = 0;
  for (const auto& [address, mapping] : allocations) {
    if (count >= capacity) break;
    uint8_t* begin = stub::reachable(address);
    table[3 * count] = address;
    table[3 * count + 1] = reinterpret_cast<unsigned long long>(begin);
    table[3 * count + 2] = static_cast<uint8_t*>(mapping.first) + mapping.second - begin;
    ++count;
  }
  return count;
}
extern "C" STUB_EXPORT CUdeviceptr stub_allocate(size_t bytes) { return stub::allocate(bytes); }
extern "C" STUB_EXPORT void stub_release(CUdeviceptr memory) { stub::release(memory); }
// Of whoever consumes: reads device memory after what is queued on `stream`, which is that of device 0 if null.
extern "C" STUB_EXPORT void stub_read(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  Stream& s = stream ? *reinterpret_cast<Stream*>(stream) : default_streams[0];
  drain(s, s.tail);
  std::memcpy(to, stub::reachable(from), bytes);
}
// Runs what is queued on all streams but the default ones, and what that waits for.
extern "C" STUB_EXPORT void stub_run_created_streams() {
  std::lock_guard<std::recursive_mutex> lock(stream_mutex);
  for (Stream* stream : created_streams) drain(*stream, stream->tail);
}
// Queues a fill: what a consumer does with memory before handing it over.
extern "C" STUB_EXPORT void stub_fill(CUdeviceptr memory, int value, size_t bytes, CUstream stream) {
  stub::post(stream, [=] { std::memset(stub::reachable(memory), value, bytes); });
}

// ---- the driver API ----

STUB_API cuInit(unsigned) {
  STUB_ENTER;
  return num_devices > 0 ? kSuccess : kNoDevice;
}
STUB_API cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}
STUB_API cuGetErrorName(CUresult code, const char** text) {
  *text = code == kSuccess ? "CUDA_SUCCESS" : code == kOutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_OF_THE_STUB";
  return kSuccess;
}
STUB_API cuGetErrorString(CUresult, const char** text) {
  *text = "told to by a test, or misused";
  return kSuccess;
}
STUB_API cuDeviceGetCount(int* count) {
  STUB_ENTER;
  *count = num_devices;
  return kSuccess;
}
STUB_API cuDeviceGet(CUdevice* device, int ordinal) {
  STUB_ENTER;
  if (ordinal < 0 || ordinal >= num_devices) return kInvalidDevice;
  *device = ordinal;
  return kSuccess;
}
STUB_API cuDeviceGetName(char* name, int size, CUdevice device) {
  std::snprintf(name, size_t(size), "stub device %d", device);
  return kSuccess;
}
STUB_API cuDeviceGetPCIBusId(char* address, int size, CUdevice device) {
  std::snprintf(address, size_t(size), "0000:%02x:00.0", 0x3b + device);
  return kSuccess;
}
STUB_API cuDeviceGetAttribute(int* value, int attribute, CUdevice) {
  *value = attribute == 75 ? 8 : attribute == 76 ? 0 : attribute == 14 ? 512 : 1;  // compute capability 8.0; texture alignment
  return kSuccess;
}
STUB_API cuDeviceComputeCapability(int* major, int* minor, CUdevice) {
  *major = 8, *minor = 0;
  return kSuccess;
}
STUB_API cuDeviceTotalMem_v2(size_t* bytes, CUdevice) {
  *bytes = size_t{1} << 30;
  return kSuccess;
}
STUB_API cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  STUB_ENTER;
  contexts[device].device = device;
  *context = handle(&contexts[device]);
  return kSuccess;
}
STUB_API cuDevicePrimaryCtxRelease(CUdevice) { return kSuccess; }
STUB_API cuDevicePrimaryCtxSetFlags(CUdevice, unsigned) { return kSuccess; }
STUB_API cuDevicePrimaryCtxReset(CUdevice) { return kUnsupported; }
STUB_API cuDevicePrimaryCtxGetState(CUdevice, unsigned* flags, int* is_active) {
  *flags = 0, *is_active = 1;
  return kSuccess;
}
STUB_API cuCtxPushCurrent_v2(CUcontext context) {
  STUB_ENTER;
  stack.push_back(reinterpret_cast<Context*>(context));
  stub::count("pushed_contexts", 1);
  return kSuccess;
}
STUB_API cuCtxPopCurrent_v2(CUcontext* context) {
  if (stack.empty()) return kInvalidContext;
  if (context) *context = handle(stack.back());
  stack.pop_back();
  stub::count("pushed_contexts", -1);
  return kSuccess;
}
STUB_API cuCtxGetDevice(CUdevice* device) {
  if (!current()) return kInvalidContext;
  *device = current()->device;
  return kSuccess;
}
STUB_API cuCtxSetLimit(int, size_t) { return kSuccess; }

STUB_API cuMemAlloc_v2(CUdeviceptr* memory, size_t bytes) {
  STUB_ENTER;
  if (!current()) return kInvalidContext;
  *memory = stub::allocate(bytes);
  return *memory ? kSuccess : kOutOfMemory;
}
STUB_API cuMemAllocPitch_v2(CUdeviceptr* memory, size_t* pitch, size_t width, size_t height, unsigned) {
  *pitch = (width + 511) / 512 * 512;
  return cuMemAlloc_v2(memory, *pitch * height);
}
STUB_API cuMemFree_v2(CUdeviceptr memory) {
  STUB_ENTER;
  return stub::release(memory) ? kSuccess : kInvalidValue;
}
STUB_API cuMemAllocHost_v2(void** memory, size_t bytes) {
  STUB_ENTER;
  if (!current()) return kInvalidContext;
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(*memory, 0xCD, bytes);
  stub::count("live_pinned", 1);
  return kSuccess;
}
STUB_API cuMemFreeHost(void* memory) {
  std::free(memory);
  stub::count("live_pinned", -1);
  return kSuccess;
}
STUB_API cuMemsetD8Async(CUdeviceptr memory, unsigned char value, size_t bytes, CUstream stream) {
  stub::post(stream, [=] { std::memset(stub::reachable(memory), value, bytes); });
  return kSuccess;
}
STUB_API cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  STUB_ENTER;
  return copy(reinterpret_cast<void*>(to), from, bytes, nullptr, false);
}
STUB_API cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  STUB_ENTER;
  return copy(reinterpret_cast<void*>(to), from, bytes, stream, true);
}
STUB_API cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  STUB_ENTER;
  return copy(to, reinterpret_cast<void*>(from), bytes, nullptr, false);
}
STUB_API cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  STUB_ENTER;
  return copy(to, reinterpret_cast<void*>(from), bytes, stream, true);
}

// CUDA_MEMCPY2D of cuda.h.
struct Copy2D {
  size_t source_x, source_y;
  int source_type;
  const void* source_host;
  CUdeviceptr source_device;
  void* source_array;
  size_t source_pitch;
  size_t target_x, target_y;
  int target_type;
  void* target_host;
  CUdeviceptr target_device;
  void* target_array;
  size_t target_pitch;
  size_t row_bytes, num_rows;
};
static void copy_rows(const Copy2D& c) {
  constexpr int kHost = 1;
  const uint8_t* from = c.source_type == kHost ? static_cast<const uint8_t*>(c.source_host) : stub::reachable(c.source_device);
  uint8_t* to = c.target_type == kHost ? static_cast<uint8_t*>(c.target_host) : stub::reachable(c.target_device);
  from += c.source_y * c.source_pitch + c.source_x;
  to += c.target_y * c.target_pitch + c.target_x;
  for (size_t row = 0; row < c.num_rows; ++row) std::memcpy(to + row * c.target_pitch, from + row * c.source_pitch, c.row_bytes);
}
STUB_API cuMemcpy2D_v2(const Copy2D* c) {
  STUB_ENTER;
  Stream& s = stream_of(nullptr);
  wait_for(s, s.tail);
  copy_rows(*c);
  return kSuccess;
}
STUB_API cuMemcpy2DAsync_v2(const Copy2D* c, CUstream stream) {
  STUB_ENTER;
  stub::post(stream, [copy = *c] { copy_rows(copy); });
  return kSuccess;
}

STUB_API cuStreamCreate(CUstream* stream, unsigned) {
  STUB_ENTER;
  if (!current()) return kInvalidContext;
  auto* created = new Stream;
  created->device = current()->device;
  {
    std::lock_guard<std::recursive_mutex> lock(stream_mutex);
    created_streams.push_back(created);
  }
  *stream = reinterpret_cast<CUstream>(created);
  stub::count("live_streams", 1);
  return kSuccess;
}
STUB_API cuStreamDestroy_v2(CUstream stream) {
  auto* s = reinterpret_cast<Stream*>(stream);
  drain(*s, s->tail);  // and stays: events recorded on it may still be asked for
  stub::count("live_streams", -1);
  return kSuccess;
}
STUB_API cuStreamQuery(CUstream stream) {
  std::lock_guard<std::recursive_mutex> lock(stream_mutex);
  return stream_of(stream).queue.empty() ? kSuccess : kNotReady;
}
STUB_API cuStreamSynchronize(CUstream stream) {
  STUB_ENTER;
  Stream& s = stream_of(stream);
  wait_for(s, s.tail);
  return kSuccess;
}
STUB_API cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
  STUB_ENTER;
  std::lock_guard<std::recursive_mutex> lock(stream_mutex);
  const Event awaited = *reinterpret_cast<Event*>(event);
  if (awaited.stream) stub::post(stream, [awaited] { drain(*awaited.stream, awaited.position); });
  return kSuccess;
}
STUB_API cuEventCreate(CUevent* event, unsigned) {
  STUB_ENTER;
  if (!current()) return kInvalidContext;
  *event = reinterpret_cast<CUevent>(new Event);
  stub::count("live_events", 1);
  return kSuccess;
}
STUB_API cuEventDestroy_v2(CUevent event) {
  delete reinterpret_cast<Event*>(event);
  stub::count("live_events", -1);
  return kSuccess;
}
STUB_API cuEventRecord(CUevent event, CUstream stream) {
  STUB_ENTER;
  std::lock_guard<std::recursive_mutex> lock(stream_mutex);
  Stream& s = stream_of(stream);
  *reinterpret_cast<Event*>(event) = {&s, s.tail};
  return kSuccess;
}
STUB_API cuEventQuery(CUevent event) {
  std::lock_guard<std::recursive_mutex> lock(stream_mutex);
  const auto* e = reinterpret_cast<Event*>(event);
  return !e->stream || e->stream->head >= e->position ? kSuccess : kNotReady;
}
STUB_API cuEventSynchronize(CUevent event) {
  STUB_ENTER;
  const Event e = *reinterpret_cast<Event*>(event);
  if (e.stream) wait_for(*e.stream, e.position);
  return kSuccess;
}

STUB_API cuModuleLoadData(CUmodule* module, const void* image) {
  STUB_ENTER;
  *module = reinterpret_cast<CUmodule>(const_cast<void*>(image));
  return kSuccess;
}
STUB_API cuModuleUnload(CUmodule) { return kSuccess; }
STUB_API cuModuleGetFunction(CUfunction* function, CUmodule, const char* name) {
  STUB_ENTER;
  *function = reinterpret_cast<CUfunction>(new std::string(name));  // as long as a context lives: for good
  return kSuccess;
}
STUB_API cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                        unsigned block_z, unsigned, CUstream stream, void** parameters, void**) {
  STUB_ENTER;
  if (!current()) {
    stub::count("launches_without_context", 1);
    return kInvalidContext;
  }
  if (stream_of(stream).device != current()->device) return 400;  // CUDA_ERROR_INVALID_HANDLE
  if (!grid_x || !grid_y || !grid_z || grid_y > 65535 || grid_z > 65535 || block_x * block_y * block_z > 1024) return kInvalidValue;
  if (!host_kernel) return kNotFound;
  const std::string name = *reinterpret_cast<std::string*>(function);
  const CUdeviceptr descriptors = *static_cast<CUdeviceptr*>(parameters[0]);  // parameters are copied at launch, as the driver does
  stub::count("pictures_made", long(grid_z));
  stub::post(stream, [=] {
    std::vector<vidload::PictureDescriptor> copies(grid_z);
    std::memcpy(copies.data(), stub::reachable(descriptors), copies.size() * sizeof copies[0]);
    // The kernel's host twin must be told where the stub's device memory can be reached.
    for (vidload::PictureDescriptor& d : copies) {
      const auto move = [](auto& pointer) {
        pointer = reinterpret_cast<std::decay_t<decltype(pointer)>>(stub::reachable(CUdeviceptr(pointer)));
      };
      for (int p = 0; p < d.num_planes; ++p) {
        move(d.planes[p].data);
        for (vidload::TapsDescriptor* taps : {&d.planes[p].x, &d.planes[p].y}) move(taps->start), move(taps->weight);
      }
      move(d.out);
      // A grid that does not cover the output would leave pixels unwritten.
      if (grid_x * block_x < unsigned(d.width) || grid_y * block_y < unsigned(d.height)) std::abort();
    }
    host_kernel(name.c_str(), copies.data(), int(grid_z));
  });
  return kSuccess;
}

// FFmpeg refuses a driver that lacks one of these names; none may be called.
#define STUB_MISSING(name)                                               \
  extern "C" STUB_EXPORT CUresult name() {                               \
    stub::count("missing_calls", 1);                                     \
    std::fprintf(stderr, "stub driver: %s is not implemented\n", #name); \
    return kUnsupported;                                                 \
  }
STUB_MISSING(cuCtxCreate_v2)
STUB_MISSING(cuCtxDestroy_v2)
STUB_MISSING(cuMemAllocManaged)
STUB_MISSING(cuMemcpy)
STUB_MISSING(cuMemcpyAsync)
STUB_MISSING(cuMemcpyDtoD_v2)
STUB_MISSING(cuMemcpyDtoDAsync_v2)
STUB_MISSING(cuStreamAddCallback)
STUB_MISSING(cuLinkCreate)
STUB_MISSING(cuLinkAddData)
STUB_MISSING(cuLinkComplete)
STUB_MISSING(cuLinkDestroy)
STUB_MISSING(cuModuleGetGlobal)
STUB_MISSING(cuTexObjectCreate)
STUB_MISSING(cuTexObjectDestroy)
STUB_MISSING(cuGLGetDevices_v2)
STUB_MISSING(cuGraphicsGLRegisterImage)
STUB_MISSING(cuGraphicsUnregisterResource)
STUB_MISSING(cuGraphicsMapResources)
STUB_MISSING(cuGraphicsUnmapResources)
STUB_MISSING(cuGraphicsSubResourceGetMappedArray)
STUB_MISSING(cuGraphicsResourceGetMappedPointer_v2)
STUB_MISSING(cuDeviceGetUuid)
STUB_MISSING(cuImportExternalMemory)
STUB_MISSING(cuDestroyExternalMemory)
STUB_MISSING(cuExternalMemoryGetMappedBuffer)
STUB_MISSING(cuExternalMemoryGetMappedMipmappedArray)
STUB_MISSING(cuMipmappedArrayGetLevel)
STUB_MISSING(cuMipmappedArrayDestroy)
STUB_MISSING(cuImportExternalSemaphore)
STUB_MISSING(cuDestroyExternalSemaphore)
STUB_MISSING(cuSignalExternalSemaphoresAsync)
STUB_MISSING(cuWaitExternalSemaphoresAsync)
STUB_MISSING(cuArrayCreate_v2)
STUB_MISSING(cuArray3DCreate_v2)
STUB_MISSING(cuArrayDestroy)
STUB_MISSING(cuEGLStreamProducerConnect)
STUB_MISSING(cuEGLStreamProducerDisconnect)
STUB_MISSING(cuEGLStreamConsumerDisconnect)
STUB_MISSING(cuEGLStreamProducerPresentFrame)
STUB_MISSING(cuEGLStreamProducerReturnFrame)
