#include "base/cpu_level.h"

#include <algorithm>
#include <cstdlib>

#include "base/error.h"

namespace vidload {

const char* cpu_level_name(CpuLevel level) {
  switch (level) {
    case CpuLevel::scalar: return "scalar";
    case CpuLevel::avx2: return "avx2";
    case CpuLevel::avx512: return "avx512";
  }
  return "unknown";
}

CpuLevel cpu_level_from_name(const std::string& name) {
  for (CpuLevel level : {CpuLevel::scalar, CpuLevel::avx2, CpuLevel::avx512}) {
    if (name == cpu_level_name(level)) return level;
  }
  throw Error("CPU level '" + name + "' is unknown; choose scalar, avx2 or avx512");
}

static std::vector<CpuLevel> detect() {
  std::vector<CpuLevel> levels{CpuLevel::scalar};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    levels.push_back(CpuLevel::avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq")) {
      levels.push_back(CpuLevel::avx512);
    }
  }
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
