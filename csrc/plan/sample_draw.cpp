#include "plan/sample_draw.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace vidload {
namespace {

constexpr uint64_t kMultipliers[2] = {0xD2E7470EE14C6C93, 0xCA5A826395121157};
constexpr uint64_t kWeyl[2] = {0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B};
constexpr int kNumTries = 10;                                               // of random_resized
constexpr int kSampleRange = 64, kNumWindows = 10;                          // of dense
constexpr double kTargetFps = 30;                                           // of slowfast
constexpr int kPositions[13][2] = {{0, 0}, {4, 0}, {0, 4}, {4, 4}, {2, 2},  // (x, y) in quarters of the room; ten_crop's come first
                                   {0, 2}, {4, 2}, {2, 4}, {2, 0}, {1, 1}, {3, 1}, {1, 3}, {3, 3}};

int64_t rounded(double value) { return int64_t(std::nearbyint(value)); }  // half to even, as Python's

int64_t floor_divided(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

// --- in time; each appends num_clips * clip_len frames, or more in dense evaluation

void append_clips(const std::vector<int64_t>& starts, const DrawRules& rules, int64_t num_frames, std::vector<int64_t>& frames) {
  for (const int64_t start : starts) {
    int64_t last = 0;  // within the video
    for (int i = 0; i < rules.clip_len; ++i) {
      const int64_t frame = start + int64_t{i} * rules.frame_interval;
      if (frame < num_frames) last = frame;
      frames.push_back(frame < num_frames ? frame : rules.repeats_last ? last : frame % num_frames);
    }
  }
}

void segments(const DrawRules& rules, int64_t num_frames, Philox* rng, std::vector<int64_t>& frames) {
  const int num_clips = rules.num_clips;
  std::vector<int64_t> starts(static_cast<size_t>(num_clips), 0);
  if (rng) {
    const int64_t span = int64_t{rules.clip_len} * rules.frame_interval;
    const int64_t num_starts = num_frames - span + 1, part = floor_divided(num_starts, num_clips);
    if (part > 0) {
      for (int i = 0; i < num_clips; ++i) starts[size_t(i)] = i * part + int64_t(rng->uniform() * double(part));
    } else if (num_frames > std::max<int64_t>(num_clips, span)) {
      for (int64_t& start : starts) start = int64_t(rng->uniform() * double(num_starts));
      std::sort(starts.begin(), starts.end());
    } else if (part == 0) {
      const double step = double(num_starts) / num_clips;
      for (int i = 0; i < num_clips; ++i) starts[size_t(i)] = rounded(i * step);
    }
  } else if (rules.clip_len == 1) {
    const double step = double(num_frames) / num_clips;
    for (int i = 0; i < num_clips; ++i) starts[size_t(i)] = int64_t(i * step + step / 2);
  } else {
    const int64_t clip_span = int64_t{rules.frame_interval} * (rules.clip_len - 1) + 1;
    const int64_t slack = std::max<int64_t>(num_frames - clip_span, 0);
    if (num_clips == 1) {
      starts[0] = slack / 2;
    } else {
      const double step = double(slack) / (num_clips - 1);
      for (int i = 0; i < num_clips; ++i) starts[size_t(i)] = rounded(i * step);
    }
  }
  append_clips(starts, rules, num_frames, frames);
}

void dense(const DrawRules& rules, int64_t num_frames, Philox* rng, std::vector<int64_t>& frames) {
  const int64_t last = std::max<int64_t>(num_frames - kSampleRange, 0), step = kSampleRange / rules.num_clips;
  std::vector<int64_t> windows;
  if (rng) {
    windows.push_back(int64_t(rng->uniform() * double(last)));
  } else {  // as NumPy's linspace
    const double width = double(last) / (kNumWindows - 1);
    for (int i = 0; i < kNumWindows; ++i) windows.push_back(i == kNumWindows - 1 ? last : int64_t(i * width));
  }
  std::vector<int64_t> starts;
  for (const int64_t window : windows) {
    for (int i = 0; i < rules.num_clips; ++i) starts.push_back((window + i * step) % num_frames);
  }
  append_clips(starts, rules, num_frames, frames);
}

void uniform(const DrawRules& rules, int64_t num_frames, Philox* rng, std::vector<int64_t>& frames) {
  const double part = double(num_frames - 1) / rules.clip_len, shift = part / (rules.num_clips + 1);
  for (int clip = 0; clip < rules.num_clips; ++clip) {
    for (int i = 0; i < rules.clip_len; ++i) {
      const int64_t first = rounded(part * i), last = rounded(part * (i + 1));
      frames.push_back(first + (rng ? int64_t(rng->uniform() * double(last - first + 1)) : int64_t(shift * (clip + 1))));
    }
  }
}

void slowfast(const DrawRules& rules, int64_t num_frames, double fps, Philox* rng, std::vector<int64_t>& frames) {
  const double rate = fps > 0 && std::isfinite(fps) ? fps / kTargetFps : 1.0;
  const double clip_size = std::max(double(rules.frame_interval * rules.clip_len) * rate, 1.0);
  const double delta = std::max(double(num_frames) - clip_size, 0.0);
  for (int clip = 0; clip < rules.num_clips; ++clip) {
    const double start = rng ? rng->uniform() * delta : delta * clip / rules.num_clips;
    for (int i = 0; i < rules.clip_len; ++i) {
      const double frame = start + i * (clip_size - 1) / std::max(rules.clip_len - 1, 1);
      frames.push_back(int64_t(std::min(frame, double(num_frames - 1))));
    }
  }
}

// --- in space; each appends a box per crop

struct Box {
  double top, left, height, width, flip;
};

struct Size {
  int64_t height, width;
};

Size resized(int64_t height, int64_t width, int64_t short_side) {
  const double scale = double(short_side) / double(std::min(height, width));
  // As vidload/crops.py rounds. NOLINTNEXTLINE(bugprone-incorrect-roundings)
  return {int64_t(double(height) * scale + 0.5), int64_t(double(width) * scale + 0.5)};
}

// Pixels by which the crop can move down and right in the resized picture.
Size room_in(const DrawRules& rules, const Size& size, int64_t height, int64_t width) {
  const Size room = {size.height - rules.height, size.width - rules.width};
  if (room.height < 0 || room.width < 0) {
    const auto text = [](int64_t rows, int64_t columns) { return std::to_string(rows) + "x" + std::to_string(columns); };
    throw Error(rules.crop_name + ": a crop of " + text(rules.height, rules.width) + " does not fit into a picture of " +
                text(height, width) + " resized to " + text(size.height, size.width) +
                " (height x width); use a larger short_side or a smaller size");
  }
  return room;
}

void boxes(const DrawRules& rules, int64_t height, int64_t width, Philox& rng, std::vector<Box>& found) {
  const bool is_random = rules.crop < Crop::center || (rules.flip > 0 && rules.flip < 1);
  const double flip = is_random ? double(rng.uniform() < rules.flip) : rules.flip;
  if (rules.crop == Crop::random_resized) {
    for (int i = 0; i < kNumTries; ++i) {
      const double u_area = rng.uniform(), u_ratio = rng.uniform(), u_top = rng.uniform(), u_left = rng.uniform();
      const double area = (rules.min_area + u_area * (rules.max_area - rules.min_area)) * double(height) * double(width);
      const double ratio = std::exp(rules.log_min_ratio + u_ratio * (rules.log_max_ratio - rules.log_min_ratio));
      const int64_t crop_width = rounded(std::sqrt(area * ratio)), crop_height = rounded(std::sqrt(area / ratio));
      if (crop_height < 1 || crop_height > height || crop_width < 1 || crop_width > width) continue;
      const int64_t top = int64_t(u_top * double(height - crop_height + 1)), left = int64_t(u_left * double(width - crop_width + 1));
      found.push_back({double(top), double(left), double(crop_height), double(crop_width), flip});
      return;
    }
    const int64_t side = std::min(height, width);
    const int64_t top = (height - side) / 2, left = (width - side) / 2;
    found.push_back({double(top), double(left), double(side), double(side), flip});
    return;
  }
  Size size, crop = {rules.height, rules.width};
  const auto append = [&](int64_t top, int64_t left, double is_flipped) {
    const double scale_y = double(height) / double(size.height), scale_x = double(width) / double(size.width);
    found.push_back(
        {double(top) * scale_y, double(left) * scale_x, double(crop.height) * scale_y, double(crop.width) * scale_x, is_flipped});
  };
  if (rules.crop == Crop::multi_scale) {
    const double u_size = rng.uniform(), u_position = rng.uniform();
    size = resized(height, width, rules.min_short_side);
    const auto [crop_height, crop_width] = rules.crop_sizes[size_t(u_size * double(rules.crop_sizes.size()))];
    crop = {crop_height, crop_width};
    const int* position = kPositions[size_t(u_position * rules.num_positions)];
    return append(position[1] * floor_divided(size.height - crop.height, 4), position[0] * floor_divided(size.width - crop.width, 4), flip);
  }
  if (rules.crop == Crop::random) {
    const double u_side = rng.uniform(), u_top = rng.uniform(), u_left = rng.uniform();
    size = resized(height, width, rules.min_short_side + int64_t(u_side * (rules.max_short_side - rules.min_short_side + 1)));
    const Size room = room_in(rules, size, height, width);
    return append(int64_t(u_top * double(room.height + 1)), int64_t(u_left * double(room.width + 1)), flip);
  }
  size = resized(height, width, rules.min_short_side);
  const Size room = room_in(rules, size, height, width);
  const int64_t top = room.height / 2, left = room.width / 2;
  if (rules.crop == Crop::center) return append(top, left, flip);
  if (rules.crop == Crop::ten) {
    for (int i = 0; i < 5; ++i) {
      for (const double is_flipped : {flip, 1 - flip}) {
        append(kPositions[i][1] * (room.height / 4), kPositions[i][0] * (room.width / 4), is_flipped);
      }
    }
    return;
  }
  const bool is_wide = width >= height;
  append(is_wide ? top : 0, is_wide ? 0 : left, flip);
  append(is_wide ? top : 2 * top, is_wide ? 2 * left : left, flip);
  append(top, left, flip);
}

}  // namespace

Philox::Philox(const SampleStream& stream)
    : counter_{0, uint64_t(stream.stands_for + 1), uint64_t(stream.draw), uint64_t(stream.index)},
      key_{uint64_t(stream.seed), uint64_t(stream.epoch)},
      block_{} {}

void Philox::next_block() {
  for (uint64_t& word : counter_) {
    if (++word != 0) break;  // else carry
  }
  std::copy(counter_, counter_ + 4, block_);
  uint64_t key[2] = {key_[0], key_[1]};
  __extension__ using Wide = unsigned __int128;
  for (int round = 0; round < 10; ++round) {
    const Wide first = Wide{kMultipliers[0]} * block_[0], second = Wide{kMultipliers[1]} * block_[2];
    block_[0] = uint64_t(second >> 64) ^ block_[1] ^ key[0];
    block_[1] = uint64_t(second);
    block_[2] = uint64_t(first >> 64) ^ block_[3] ^ key[1];
    block_[3] = uint64_t(first);
    key[0] += kWeyl[0], key[1] += kWeyl[1];
  }
  used_ = 0;
}

double Philox::uniform() {
  if (used_ == 4) next_block();
  return double(block_[used_++] >> 11) * (1.0 / 9007199254740992.0);
}

DrawnSample draw_sample(const DrawRules& rules, const SampleStream& stream, int64_t num_frames, double fps, int64_t height, int64_t width,
                        double pixel_aspect) {
  if (num_frames < 1) throw Error("sampling: cannot take frames from a video of " + std::to_string(num_frames) + " frames");
  const bool is_stretched = rules.square_pixels && pixel_aspect != 1;
  const int64_t shown_width = is_stretched ? std::max<int64_t>(1, rounded(double(width) * pixel_aspect)) : width;
  Philox rng(stream);
  Philox* in_time = rules.is_training ? &rng : nullptr;
  DrawnSample sample;
  std::vector<Box> crops;
  int num_clips = 0;
  for (int repeat = 0; repeat < rules.num_repeats; ++repeat) {
    switch (rules.sampling) {
      case Sampling::segments: segments(rules, num_frames, in_time, sample.frames); break;
      case Sampling::dense: dense(rules, num_frames, in_time, sample.frames); break;
      case Sampling::uniform: uniform(rules, num_frames, in_time, sample.frames); break;
      case Sampling::slowfast: slowfast(rules, num_frames, fps, in_time, sample.frames); break;
    }
    crops.clear();
    boxes(rules, height, shown_width, rng, crops);
    if (is_stretched) {
      for (Box& box : crops) box.left *= double(width) / double(shown_width), box.width *= double(width) / double(shown_width);
    }
    const int first_clip = num_clips;
    num_clips = int(sample.frames.size()) / rules.clip_len;
    for (const Box& box : crops) {
      for (int clip = first_clip; clip < num_clips; ++clip) {
        sample.views.push_back({clip, box.top, box.left, box.height, box.width, box.flip != 0});
      }
    }
  }
  return sample;
}

}  // namespace vidload
