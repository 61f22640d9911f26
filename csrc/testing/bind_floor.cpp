// The floor that bench/loader_vs_decord.py measures vidload against: what a clip costs with nothing around it. One thread, one loop: the
// packets that are needed, libavcodec, the transform into one reused buffer. No Python, no pool, no batch, no index look-up.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <chrono>

#include "bindings/bindings.h"
#include "decode/open_video.h"
#include "decode/software_decoder.h"
#include "plan/decode_plan.h"
#include "testing/testing.h"
#include "transform/transform.h"

namespace py = pybind11;

namespace vidload {
namespace {

struct FloorClip {
  std::string path;
  std::vector<int64_t> frames;
  std::array<double, 5> box;  // top, left, height, width, flip
};

// Seconds for all clips, each decoded once; indexing is left out.
double time_floor(const std::vector<FloorClip>& clips, const TransformSpec& spec) {
  std::vector<PacketIndex> indexes;
  for (const FloorClip& clip : clips) indexes.push_back(index_video(*open_source(SourceId(clip.path))));
  size_t longest = 1;
  for (const FloorClip& clip : clips) longest = std::max(longest, clip.frames.size());
  const size_t frame_size = size_t{3} * size_t(spec.height) * size_t(spec.width);
  std::vector<float> out(longest * frame_size);
  Resampler resampler(spec);

  const auto start = std::chrono::steady_clock::now();
  for (size_t i = 0; i < clips.size(); ++i) {
    const FloorClip& clip = clips[i];
    const DecodePlan plan = decode_plan(indexes[i], clip.frames.data(), int64_t(clip.frames.size()));
    const std::unique_ptr<ByteSource> source = open_source(SourceId(clip.path));
    PacketReader reader(*source, indexes[i]);
    SoftwareDecoder decoder(indexes[i].stream, clip.path);
    DecodeTimes times;
    for (const Span& span : plan.spans) {
      decoder.run(
          span, reader,
          [&](const WantedFrame& wanted, const DecodedPicture& decoded) {
            const PictureView picture = decoded.view();
            resampler.set(picture, {clip.box[0], clip.box[1], clip.box[2], clip.box[3], clip.box[4] != 0});
            for (size_t place = 0; place < clip.frames.size(); ++place) {
              if (clip.frames[place] != wanted.frame) continue;
              resampler.run(picture, {out.data() + place * frame_size, ptrdiff_t{spec.height} * spec.width, spec.width, 1});
            }
          },
          times, nullptr);
    }
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

void bind_floor(py::module_& module) {
  module.def(
      "time_floor",
      [](const std::vector<std::tuple<std::string, std::vector<int64_t>, std::array<double, 5>>>& clips, const TransformSpec& spec) {
        if (spec.dtype != DType::float32) throw Error("the floor is measured in float32");
        std::vector<FloorClip> requests;
        for (const auto& [path, frames, box] : clips) requests.push_back({path, frames, box});
        const GilRelease release;
        return time_floor(requests, spec);
      },
      py::arg("clips"), py::arg("spec"), "Seconds that (path, frames, (top, left, height, width, flip)) of all clips take on one thread.");
}

}  // namespace vidload
