#include "transform/tap_windows.h"

#include <algorithm>

namespace vidload {

static_assert(kOutputPadding % kBlockOutputs == 0, "taps are padded to whole blocks");

// How far apart four neighboring outputs begin, at most.
static int widest_four(const ResampleTaps& taps) {
  int spread = 0;
  for (auto four = taps.start.begin(); four != taps.start.end(); four += 4) {
    const auto [first, last] = std::minmax_element(four, four + 4);
    spread = std::max(spread, *last - *first);
  }
  return spread;
}

void tap_windows(const ResampleTaps& taps, int bytes_per_sample, TapWindows& windows) {
  const int group = std::clamp(kWindowBytes / bytes_per_sample - widest_four(taps), 0, taps.num_taps);
  windows.tap_group = group;
  if (group == 0) return;
  const int num_blocks = taps.stride / kBlockOutputs;
  const int num_groups = (taps.num_taps + group - 1) / group;
  const int last_window = std::max(0, taps.source_size * bytes_per_sample - kWindowBytes);
  windows.offset.resize(static_cast<size_t>(num_blocks) * num_groups * kBlockWindows);
  windows.shuffle.resize(static_cast<size_t>(num_blocks) * taps.num_taps * kShuffleBytes);
  int32_t* next_offset = windows.offset.data();
  uint8_t* shuffle = windows.shuffle.data();
  for (int block = 0; block < num_blocks; ++block) {
    const int32_t* start = &taps.start[block * kBlockOutputs];
    const int32_t* offset = nullptr;
    for (int k = 0; k < taps.num_taps; ++k) {
      if (k % group == 0) {
        offset = next_offset;
        for (int four = 0; four < kBlockOutputs; four += 4) {
          const int first = *std::min_element(start + four, start + four + 4) + k;
          *next_offset++ = std::min(first * bytes_per_sample, last_window);
        }
      }
      for (int i = 0; i < kBlockOutputs; ++i) {
        const int position = (start[i] + k) * bytes_per_sample - offset[i / 4];
        for (int byte = 0; byte < 4; ++byte) {
          *shuffle++ = static_cast<uint8_t>(byte < bytes_per_sample ? position + byte : 0x80);
        }
      }
    }
  }
}

// Note [Windows]
// Four neighboring outputs find their samples under a few neighboring taps (a group of them) within 16 bytes of the row, unless the
// picture shrinks by more than about 5 (8-bit samples) or 2 (16-bit). So a vector level loads 16 bytes for every four outputs, and
// then for each tap shuffles every output's sample to a 32-bit lane of its own with zeros above it. A window that would leave the
// row starts earlier, and its shuffles know. Rows shorter than a window are the vector level's care.

}  // namespace vidload
