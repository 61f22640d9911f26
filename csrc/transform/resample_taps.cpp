#include "transform/resample_taps.h"

#include <algorithm>
#include <cmath>

namespace vidload {

// A tap this light moves no output by 0.001 on the 0-255 scale. Dropping it keeps rounding noise in a box from widening every window.
constexpr double kNegligibleWeight = 1e-6;

namespace {

// One output's taps before they are padded to a common count.
struct Window {
  int start, size;
};

}  // namespace

static Window nearest_edge(double center, int source_size, double* weights) {
  weights[0] = 1.0;
  return {center < 0.5 * source_size ? 0 : source_size - 1, 1};
}

static Window triangle_window(double center, double radius, int source_size, double* weights) {
  // In double until clamped: a box far outside the plane would overflow an int.
  const double begin = std::floor(center - radius + 0.5), end = std::floor(center + radius + 0.5);
  const int first = static_cast<int>(std::clamp(begin, 0.0, static_cast<double>(source_size)));
  const int stop = static_cast<int>(std::clamp(end, 0.0, static_cast<double>(source_size)));
  double sum = 0;
  for (int k = first; k < stop; ++k) {
    weights[k - first] = std::max(0.0, 1.0 - std::abs(k + 0.5 - center) / radius);
    sum += weights[k - first];
  }
  if (!(sum > 0)) return nearest_edge(center, source_size, weights);
  int light = 0, size = stop - first;
  while (size > 1 && weights[size - 1] <= kNegligibleWeight * sum) sum -= weights[--size];
  while (size > 1 && weights[light] <= kNegligibleWeight * sum) sum -= weights[light++], --size;
  for (int k = 0; k < size; ++k) weights[k] = weights[light + k] / sum;
  return {first + light, size};
}

static Window bilinear_window(double center, int source_size, double* weights) {
  const double position = std::clamp(center - 0.5, 0.0, static_cast<double>(source_size - 1));
  const int first = static_cast<int>(position);
  const double fraction = position - first;
  if (fraction <= kNegligibleWeight) {
    weights[0] = 1.0;
    return {first, 1};
  }
  weights[0] = 1.0 - fraction;
  weights[1] = fraction;
  return {first, 2};
}

void resample_taps(const ResampleAxis& axis, ResampleTaps& taps) {
  const double radius = std::max(1.0, axis.step);
  const int widest = axis.antialias ? static_cast<int>(std::min(2 * radius + 2, static_cast<double>(axis.source_size))) : 2;
  std::vector<double> weights(static_cast<size_t>(axis.num_outputs) * widest);
  std::vector<Window> windows(axis.num_outputs);
  int num_taps = 1;
  for (int i = 0; i < axis.num_outputs; ++i) {
    const double center = axis.first_center + i * axis.step;
    double* out = &weights[static_cast<size_t>(i) * widest];
    windows[i] = axis.antialias ? triangle_window(center, radius, axis.source_size, out) : bilinear_window(center, axis.source_size, out);
    num_taps = std::max(num_taps, windows[i].size);
  }

  taps.source_size = axis.source_size;
  taps.num_outputs = axis.num_outputs;
  taps.num_taps = num_taps;
  taps.stride = (axis.num_outputs + kOutputPadding - 1) / kOutputPadding * kOutputPadding;
  taps.start.resize(taps.stride);
  taps.weight.assign(static_cast<size_t>(num_taps) * taps.stride, 0.0f);
  for (int i = 0; i < axis.num_outputs; ++i) {
    const Window& window = windows[i];
    const double* from = &weights[static_cast<size_t>(i) * widest];
    const int output = axis.flip ? axis.num_outputs - 1 - i : i;
    const int start = std::min(window.start, axis.source_size - num_taps);
    taps.start[output] = start;
    float* to = &taps.weight[static_cast<size_t>(window.start - start) * taps.stride + output];
    for (int k = 0; k < window.size; ++k) to[static_cast<size_t>(k) * taps.stride] = static_cast<float>(from[k]);
  }
  std::fill(taps.start.begin() + axis.num_outputs, taps.start.end(), taps.start[axis.num_outputs - 1]);
}

// Note [Resampling]
// An axis maps O outputs onto a box of length L that begins at b, in luma pixels (pixel k spans [k, k + 1]). With r = L / O, output i
// is centered at c = b + (i + 0.5) r. A plane with `scale` luma pixels per sample whose sample 0 is centered at `offset` sees it at
// u = (c - offset) / scale + 0.5, with r / scale samples between outputs.
//     antialias     weight of sample k is max(0, 1 - |k + 0.5 - u| / radius), radius = max(1, r / scale), normalized to sum 1
//                   over the samples in the plane: Pillow's BILINEAR (libImaging/Resample.c) and torch's interpolate(antialias=True).
//     no antialias  radius 1, and u - 0.5 clamped to the plane: torch's interpolate(align_corners=False), OpenCV's INTER_LINEAR.
// The box cuts nothing off: samples of the frame beside it take part, and only the frame's edges end a window. A center so far outside
// the frame that no sample is in reach takes the nearest edge sample. (Pillow's resize(box=) does the same inside the frame.)

}  // namespace vidload
