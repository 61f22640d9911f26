// A stand-in for libnvidia-ml.so.1: one card per device of the stub driver, with numbers of its own making.
#include <cstdio>
#include <cstring>

#include "stub.h"

STUB_API nvmlInit_v2() { return kSuccess; }
STUB_API nvmlSystemGetDriverVersion(char* text, unsigned size) {
  std::snprintf(text, size, "580.65.06");
  return kSuccess;
}
STUB_API nvmlDeviceGetHandleByPciBusId_v2(const char* address, void** device) {
  static int cards[16];
  unsigned bus = 0;
  if (std::sscanf(address, "0000:%x:00.0", &bus) != 1 || bus < 0x3b || bus >= 0x3b + 16) return kNotFound;
  *device = &cards[bus - 0x3b];
  return kSuccess;
}
STUB_API nvmlDeviceGetCurrPcieLinkGeneration(void*, unsigned* value) {
  *value = 1;
  return kSuccess;
}
STUB_API nvmlDeviceGetCurrPcieLinkWidth(void*, unsigned* value) {
  *value = 16;
  return kSuccess;
}
STUB_API nvmlDeviceGetMaxPcieLinkGeneration(void*, unsigned* value) {
  *value = 4;
  return kSuccess;
}
STUB_API nvmlDeviceGetMaxPcieLinkWidth(void*, unsigned* value) {
  *value = 16;
  return kSuccess;
}
STUB_API nvmlDeviceGetDecoderUtilization(void*, unsigned* value, unsigned* period_us) {
  *value = 37, *period_us = 167000;
  return kSuccess;
}
struct Memory {
  unsigned long long total, free, used;
};
STUB_API nvmlDeviceGetMemoryInfo(void*, Memory* memory) {
  *memory = {1ull << 30, 1ull << 29, 1ull << 29};
  return kSuccess;
}
