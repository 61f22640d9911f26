#include "base/cpu_level.h"

#include <algorithm>
#include <cstdlib>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/error.h"

namespace vidload {

const char* cpu_level_name(CpuLevel level) {
  switch (level) {
    case CpuLevel::scalar: return "scalar";
    case CpuLevel::avx2: return "avx2";
    case CpuLevel::avx512: return "avx512";
    case CpuLevel::neon: return "neon";
  }
  return "unknown";
}

CpuLevel cpu_level_from_name(const std::string& name) {
  for (CpuLevel level : {CpuLevel::scalar, CpuLevel::avx2, CpuLevel::avx512, CpuLevel::neon}) {
    if (name == cpu_level_name(level)) return level;
  }
  throw Error("CPU level '" + name + "' is unknown; choose scalar, avx2, avx512 or neon");
}

#if defined(__x86_64__)
namespace {

// By cpuid and not by __builtin_cpu_supports, whose run-time half not every clang has. An extension counts only if the system saves its
// registers (XCR0).
struct X86Features {
  bool has_avx2 = false;    // with FMA and F16C
  bool has_avx512 = false;  // F, DQ, BW, VL

  X86Features() {
    constexpr unsigned kFma = 1u << 12, kOsxsave = 1u << 27, kF16c = 1u << 29;                // leaf 1, ecx
    constexpr unsigned kAvx2 = 1u << 5, kAvx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // leaf 7, ebx
    constexpr unsigned kYmmState = 0x6, kZmmState = 0xe6;                                     // XCR0
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return;
    if ((ecx & (kFma | kOsxsave | kF16c)) != (kFma | kOsxsave | kF16c)) return;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return;
    unsigned xcr0, high;
    __asm__("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
    has_avx2 = (xcr0 & kYmmState) == kYmmState && (ebx & kAvx2);
    has_avx512 = has_avx2 && (xcr0 & kZmmState) == kZmmState && (ebx & kAvx512) == kAvx512;
  }
};

}  // namespace
#endif

static std::vector<CpuLevel> detect() {
  std::vector<CpuLevel> levels{CpuLevel::scalar};
#if defined(__x86_64__)
  const X86Features features;
  if (features.has_avx2) levels.push_back(CpuLevel::avx2);
  if (features.has_avx512) levels.push_back(CpuLevel::avx512);
#elif defined(__aarch64__)
  levels.push_back(CpuLevel::neon);  // every AArch64 has it
#endif
  return levels;
}

const std::vector<CpuLevel>& supported_cpu_levels() {
  static const std::vector<CpuLevel> levels = detect();
  return levels;
}

static CpuLevel choose() {
  const auto& levels = supported_cpu_levels();
  const char* forced = std::getenv("VIDLOAD_CPU");
  if (forced == nullptr || *forced == '\0') return levels.back();
  const CpuLevel level = cpu_level_from_name(forced);
  if (std::find(levels.begin(), levels.end(), level) == levels.end()) {
    throw Error(std::string("VIDLOAD_CPU=") + forced + ": this processor cannot run it; its highest level is " +
                cpu_level_name(levels.back()));
  }
  return level;
}

CpuLevel cpu_level() {
  static const CpuLevel level = choose();
  return level;
}

}  // namespace vidload
