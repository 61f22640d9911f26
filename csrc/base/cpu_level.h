// cpu_level: which vector instructions the transform may use: detected once, or forced by the environment variable
// VIDLOAD_CPU=scalar|avx2|avx512|neon (a lower level than the machine's shows on this machine what another one would do).
#pragma once

#include <string>
#include <vector>

namespace vidload {

enum class CpuLevel { scalar, avx2, avx512, neon };

const char* cpu_level_name(CpuLevel level);

// The level of that name. Throws Error, naming the levels there are, for any other name.
CpuLevel cpu_level_from_name(const std::string& name);

// What this machine can run, lowest first; always begins with scalar.
const std::vector<CpuLevel>& supported_cpu_levels();

// The level in use: the highest supported one, or VIDLOAD_CPU's. Read once; throws Error if that one is unknown or unsupported.
CpuLevel cpu_level();

}  // namespace vidload
