// A hardware decoder without hardware, behind the very interfaces that a new one has to implement: decode/decoder.h and
// decode/hardware_decoders.h. Its pictures are gray, as bright as their frame's number, so that what was decoded by whom is plain to see.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <atomic>

#include "batch/batch.h"
#include "batch/video_sample.h"
#include "bindings/bindings.h"
#include "testing/testing.h"

namespace py = pybind11;

namespace vidload {
namespace {

struct FakeSettings {
  int max_decoders;
  int64_t refused_frame;            // on meeting it, a decoder refuses; -1: none
  bool refuses_used_again = false;  // ... but only a decoder that was used before
};

class GrayPicture final : public DecodedPicture {
 public:
  GrayPicture(int width, int height, int value) : pixels_(size_t(width) * size_t(height), uint8_t(value)) {
    view_.width = width, view_.height = height, view_.num_planes = 1;
    view_.planes[0] = {pixels_.data(), width, 1, width, height};
    view_.bytes_per_sample = 1, view_.bit_depth = 8, view_.chroma_scale_x = view_.chroma_scale_y = 1;
    view_.range = ColorRange::full;
  }
  const AVFrame& frame() const override { throw Error("a picture of the fake decoder is no AVFrame"); }
  PictureView view() const override { return view_; }

 private:
  std::vector<uint8_t> pixels_;
  PictureView view_ = {};
};

class FakeDecoder final : public Decoder {
 public:
  FakeDecoder(const FakeSettings& settings, const StreamInfo& stream) : settings_(settings), stream_(stream) {}
  bool fits(const StreamInfo& stream) const override { return have_same_parameters(stream_, stream); }
  int64_t num_pixels() const override { return int64_t{stream_.coded_width} * stream_.coded_height; }
  void run(const Span& span, PacketReader&, const PictureSink& sink, DecodeTimes&, const Cancel*) override {
    for (const WantedFrame& wanted : span.wanted) {
      if (wanted.frame == settings_.refused_frame && (num_runs_ > 0 || !settings_.refuses_used_again)) {
        throw DecoderRefusal(Fallback::decode_failed, "it was told to");
      }
      sink(wanted, GrayPicture(stream_.coded_width, stream_.coded_height, wanted.frame));
    }
    ++num_runs_;
  }

 private:
  const FakeSettings& settings_;
  const StreamInfo stream_;
  int num_runs_ = 0;
};

class FakeHardware final : public HardwareDecoders {
 public:
  explicit FakeHardware(const FakeSettings& settings)
      : settings_(settings),
        decoders_([this](const StreamInfo& stream, const std::string&) { return open(stream); }, {settings.max_decoders}) {}
  const char* name() const override { return "the fake"; }
  void check(const PacketIndex& index, const DecodePlan&) const override {
    if (index.stream.codec != "h264") throw DecoderRefusal(Fallback::codec, "it knows H.264 alone");
  }
  DecoderPool& decoders() override { return decoders_; }
  int num_opened() const { return num_opened_; }

 private:
  std::unique_ptr<Decoder> open(const StreamInfo& stream) {
    ++num_opened_;
    return std::make_unique<FakeDecoder>(settings_, stream);
  }

  const FakeSettings settings_;
  std::atomic<int> num_opened_{0};
  DecoderPool decoders_;
};

py::tuple load(const std::vector<FilePath>& paths, const std::vector<int64_t>& frames, int size, const std::string& decoder, bool strict,
               int num_threads, const FakeSettings& settings) {
  const DecodePolicy wanted{decoding_of(decoder), strict, nullptr};
  py::array_t<uint8_t> out({py::ssize_t(paths.size()), py::ssize_t(frames.size()), py::ssize_t{3}, py::ssize_t(size), py::ssize_t(size)});
  uint8_t* const data = out.mutable_data();
  FakeHardware hardware(settings);
  LoadStats stats;
  {
    const GilRelease release;
    DecodePolicy policy = wanted;
    policy.hardware = &hardware;
    const auto pool = std::make_shared<LoaderPool>(num_threads, nullptr, policy);
    std::vector<std::unique_ptr<const Sample>> samples;
    samples.reserve(paths.size());
    for (const FilePath& path : paths) samples.push_back(std::make_unique<VideoSample>(SourceId(path.native()), -1, StoredIndex{}, false));
    Batch batch(pool, std::move(samples));
    const auto wait = [&] {
      batch.wait(-1);
      for (const std::exception_ptr& error : batch.errors()) {
        if (error) std::rethrow_exception(error);
      }
    };
    wait();
    DecodeRequest request;
    const ptrdiff_t plane = ptrdiff_t{size} * size;
    const TransformSpec spec = {size, size, DType::uint8, true, false, {}, {}};
    for (const SampleInfo& info : batch.infos()) {
      uint8_t* const clip = data + ptrdiff_t(request.size() * frames.size()) * 3 * plane;
      const DrawnView whole = {0, 0, 0, double(info.height), double(info.width), false};
      request.push_back({{frames, {whole}}, spec, int(frames.size()), clip, {0, 3 * plane, plane, size, 1}});
    }
    batch.decode(std::move(request));
    wait();
    stats = pool->stats();
  }
  py::dict counts, fallbacks;
  for (int i = 0; i < kNumFallbacks; ++i) {
    if (stats.num_fallbacks[size_t(i)] > 0) fallbacks[fallback_name(Fallback(i))] = stats.num_fallbacks[size_t(i)];
  }
  counts["num_samples"] = stats.num_samples, counts["num_frames"] = stats.num_frames;
  counts["num_by_hardware"] = stats.num_hardware_samples;
  counts["num_fakes_opened"] = hardware.num_opened();
  counts["num_decoders_opened"] = stats.num_decoders_opened;
  counts["fallbacks"] = fallbacks;
  return py::make_tuple(out, counts);
}

}  // namespace

void bind_fake_decoder(py::module_& module) {
  module.def(
      "load_by_fake_decoder",
      [](const std::vector<FilePath>& paths, const std::vector<int64_t>& frames, int size, const std::string& decoder, bool strict,
         int num_threads, int max_decoders, int64_t refused_frame, bool refuses_used_again) {
        return load(paths, frames, size, decoder, strict, num_threads, {max_decoders, refused_frame, refuses_used_again});
      },
      py::arg("paths"), py::arg("frames"), py::kw_only(), py::arg("size"), py::arg("decoder") = "nvdec", py::arg("strict") = false,
      py::arg("num_threads") = 0, py::arg("max_decoders") = 8, py::arg("refused_frame") = -1, py::arg("refuses_used_again") = false,
      "(uint8 [len(paths), len(frames), 3, size, size], counts) of a batch whose hardware is the fake. It refuses codecs but H.264, and "
      "refused_frame where it meets it. Raises the first sample's error.");
}

}  // namespace vidload
