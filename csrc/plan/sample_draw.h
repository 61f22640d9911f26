// sample_draw: which frames and boxes a sample has, drawn by the pool's threads.
// In: the dataset's rules, the sample's random stream, what is known of its video. Out: frames, clip by clip, and views. Pure. The rules
// are defined by vidload/sampling.py, vidload/crops.py and ClipDataset.request; this is their twin for what these name themselves,
// number by number and draw by draw, since a call of theirs costs the loading thread 100 us per clip. A user's own functions stay in
// Python.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace vidload {

// Where the random numbers of a sample begin; see vidload/system/random.py.
struct SampleStream {
  uint64_t seed = 0;
  int64_t epoch = 0, index = 0, draw = 0, stands_for = -1;
};

// Philox-4x64-10 as NumPy's Generator on it: uniform() gives the numbers of Generator.random().
class Philox {
 public:
  explicit Philox(const SampleStream& stream);
  double uniform();

 private:
  void next_block();
  uint64_t counter_[4], key_[2], block_[4];
  int used_ = 4;  // of the block's four
};

enum class Sampling { segments, dense, uniform, slowfast };
enum class Crop { random_resized, multi_scale, random, center, three, ten };

struct DrawRules {
  Sampling sampling = Sampling::segments;
  int clip_len = 1, frame_interval = 1, num_clips = 1, num_repeats = 1;
  bool is_training = false, repeats_last = false;

  Crop crop = Crop::center;
  std::string crop_name;                                                    // for errors
  int height = 0, width = 0;                                                // of the output
  double flip = 0;                                                          // probability
  bool square_pixels = false;                                               // crops are chosen on the picture in the shape it is shown in
  double min_area = 0, max_area = 0, log_min_ratio = 0, log_max_ratio = 0;  // random_resized
  std::vector<std::pair<int, int>> crop_sizes;                              // multi_scale: (height, width)
  int num_positions = 5;                                                    // multi_scale
  int min_short_side = 0, max_short_side = 0;                               // all but random_resized
};

struct DrawnView {
  int clip;
  double top, left, height, width;
  bool flip;
};

struct DrawnSample {
  std::vector<int64_t> frames;
  std::vector<DrawnView> views;  // the repeat the slowest, then the crop, the clip the fastest
};

// pixel_aspect: of a pixel's width to its height. Throws Error if the video has no frames or its picture cannot hold the crop.
DrawnSample draw_sample(const DrawRules& rules, const SampleStream& stream, int64_t num_frames, double fps, int64_t height, int64_t width,
                        double pixel_aspect);

}  // namespace vidload
