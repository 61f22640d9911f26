// tap_windows: horizontal taps rearranged for vector levels that fetch samples by byte shuffles. Built once per set() by code of
// the base instruction set (a vector file must not emit library functions that others would then share).
#pragma once

#include <cstdint>

#include "transform/resample_taps.h"

namespace vidload {

constexpr int kBlockOutputs = 16;                 // outputs computed together...
constexpr int kBlockWindows = kBlockOutputs / 4;  // ...four to a window
constexpr int kWindowBytes = 16;                  // what one byte shuffle can reach
constexpr int kShuffleBytes = 4 * kBlockOutputs;

// See Note [Windows].
struct TapWindows {
  int tap_group = 0;               // taps served by one window, 0 if the outputs lie too far apart for windows
  AlignedVector<int32_t> offset;   // [blocks, groups, kBlockWindows]: first byte of each window
  AlignedVector<uint8_t> shuffle;  // [blocks, num_taps, kShuffleBytes]: byte of the window, or 0x80 for a zero
};

// Fills `windows`, reusing its memory.
void tap_windows(const ResampleTaps& taps, int bytes_per_sample, TapWindows& windows);

}  // namespace vidload
