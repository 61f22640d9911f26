// What the two stub libraries share: the driver API's types, faults that tests inject, work queued on streams, counters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "device/driver.h"

#define STUB_API extern "C" __attribute__((visibility("default"))) CUresult
#define STUB_EXPORT __attribute__((visibility("default")))

constexpr CUresult kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kNoDevice = 100, kInvalidDevice = 101, kInvalidContext = 201,
                   kNotFound = 500, kNotReady = 600, kUnsupported = 801;

namespace stub {

// Each API function calls this first: sleeps a random while if tests ask for delays, and returns the error a test has ordered.
STUB_EXPORT CUresult enter(const char* function);
#define STUB_ENTER \
  if (const CUresult fault = stub::enter(__func__)) return fault

// Adds to a counter that tests read by name.
STUB_EXPORT void count(const char* name, long amount);

// Whether the calling thread has a current context.
STUB_EXPORT bool has_context();

// Runs at once, or with lazy streams when something waits for it.
STUB_EXPORT void post(CUstream stream, std::function<void()> work);

// Runs all that is queued on the stream.
STUB_EXPORT void finish(CUstream stream);

// Device memory lies where host access faults; this is where the stub itself reaches it. Other addresses stay as they are.
STUB_EXPORT uint8_t* reachable(CUdeviceptr memory);
STUB_EXPORT CUdeviceptr allocate(size_t bytes);
STUB_EXPORT bool release(CUdeviceptr memory);

}  // namespace stub
