// cuda_target: how clips and frames get to a GPU, as loader and reader are told.
#pragma once

namespace vidload {

enum class CudaDecoding { automatic, cpu, nvdec };

struct CudaTarget {
  int device = 0;
  CudaDecoding decoding = CudaDecoding::automatic;
  bool is_strict = false;  // what NVDEC cannot decode fails, in place of falling back on the CPU
};

// Smaller pictures are the CPU's where the choice is automatic: an estimate of where NVDEC begins to win; see docs/gpu.md.
constexpr int kSmallPicture = 1280 * 720;

}  // namespace vidload
