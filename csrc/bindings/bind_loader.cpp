#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>

#include "batch/batch_loader.h"
#include "bindings/bindings.h"
#include "plan/sample_draw.h"

namespace py = pybind11;

namespace vidload {
namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

// A dataset's index file, open for as long as it is used.
struct IndexFile {
  std::shared_ptr<const ByteSource> source;
};

std::vector<SampleSource> video_sources(const std::vector<FilePath>& paths, const std::optional<Array<int64_t>>& stored,
                                        const IndexFile* file) {
  std::vector<SampleSource> sources(paths.size());
  for (size_t i = 0; i < paths.size(); ++i) sources[i].path = paths[i].native();
  if (stored && file) {
    if (stored->ndim() != 2 || size_t(stored->shape(0)) != paths.size() || stored->shape(1) != 4) {
      throw Error("stored must be int64 [len(paths), 4]: offset, size, file size, mtime");
    }
    const auto rows = stored->unchecked<2>();
    for (size_t i = 0; i < paths.size(); ++i) {
      const auto row = py::ssize_t(i);
      if (rows(row, 1) > 0) sources[i].stored = {file->source, rows(row, 0), rows(row, 1), {rows(row, 2), rows(row, 3)}};
    }
  }
  return sources;
}

std::vector<SampleSource> frame_sources(const std::vector<FilePath>& folders, const std::string& name_format,
                                        const std::vector<int64_t>& first_numbers, const std::vector<int64_t>& num_frames) {
  if (num_frames.size() != folders.size() || first_numbers.size() != folders.size()) {
    throw Error("one first number and one num_frames per folder are needed");
  }
  const auto frame_name = std::make_shared<const FrameName>(name_format);
  std::vector<SampleSource> sources(folders.size());
  for (size_t i = 0; i < folders.size(); ++i) {
    sources[i].path = folders[i].native();
    sources[i].frame_name = frame_name;
    sources[i].first_number = first_numbers[i];
    sources[i].num_frames = num_frames[i];
  }
  return sources;
}

DType dtype_of(const std::string& name) {
  if (name == "uint8") return DType::uint8;
  if (name == "float16") return DType::float16;
  if (name == "bfloat16") return DType::bfloat16;
  if (name == "float32") return DType::float32;
  throw Error("dtype '" + name + "' is not one of uint8, float16, bfloat16, float32");
}

// A batch and the memory it writes to. The memory may go only after the batch has ended.
struct OwnedBatch {
  OwnedBatch(std::shared_ptr<LoaderPool> pool, std::vector<SampleSource> sources) {
    const GilRelease release;  // without threads the files are indexed here
    batch = std::make_unique<Batch>(std::move(pool), std::move(sources));
  }
  ~OwnedBatch() {
    bool has_ended = false;
    {
      const GilRelease release;
      has_ended = batch->end(left_behind().empty() ? kPatienceSeconds : 0);
      if (has_ended) batch.reset();
    }
    auto& left = left_behind();
    for (auto& other : left) {
      if (other.batch->end(0)) other = {};
    }
    left.erase(std::remove_if(left.begin(), left.end(), [](const LeftBehind& other) { return !other.batch; }), left.end());
    if (!has_ended) left.push_back({std::move(memory), std::move(batch)});
  }
  OwnedBatch(const OwnedBatch&) = delete;
  OwnedBatch& operator=(const OwnedBatch&) = delete;

  py::object memory;
  std::unique_ptr<Batch> batch;

 private:
  static constexpr double kPatienceSeconds = 1;

  // Batches whose threads do not come back from a read: a dead file server may hold them for hours, and nobody else is to wait for it.
  // They are kept, with the memory they may still write to and the pool of their threads, until they have ended; at the process's end,
  // for good. Used with the GIL held.
  struct LeftBehind {
    py::object memory;
    std::unique_ptr<Batch> batch;
  };
  static std::vector<LeftBehind>& left_behind() {
    static auto* left = new std::vector<LeftBehind>;  // never destroyed
    return *left;
  }
};

// Waits without the GIL, but lets Ctrl-C through ten times a second.
bool wait_for(OwnedBatch& owned, double timeout_seconds) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  while (true) {
    double left = 0.1;
    if (timeout_seconds >= 0) {
      left = std::min(left, timeout_seconds - std::chrono::duration<double>(Clock::now() - start).count());
      if (left < 0) left = 0;
    }
    {
      const GilRelease release;
      if (owned.batch->wait(left)) return true;
    }
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (timeout_seconds >= 0 && std::chrono::duration<double>(Clock::now() - start).count() >= timeout_seconds) return false;
  }
}

DecodeRequest request_of(const TransformSpec& spec, int clip_len, size_t num_samples, uintptr_t out,
                         const std::array<ptrdiff_t, 6>& strides) {
  DecodeRequest request;
  request.spec = spec;
  request.clip_len = clip_len;
  request.out = reinterpret_cast<uint8_t*>(out);
  request.sample_stride = strides[0], request.view_stride = strides[1], request.frame_stride = strides[2];
  request.channel_stride = strides[3], request.row_stride = strides[4], request.column_stride = strides[5];
  request.samples.resize(num_samples);
  return request;
}

void decode(OwnedBatch& owned, const TransformSpec& spec, int clip_len, const py::list& frames, const py::list& views, uintptr_t out,
            const std::array<ptrdiff_t, 6>& strides, py::object memory) {
  DecodeRequest request = request_of(spec, clip_len, frames.size(), out, strides);
  if (views.size() != frames.size()) throw Error("one array of views per sample is needed");
  for (size_t i = 0; i < frames.size(); ++i) {
    if (frames[i].is_none()) continue;
    const auto indices = frames[i].cast<Array<int64_t>>();
    // None leaves a sample out; without frames its place in the batch would stay unwritten.
    if (indices.size() == 0) throw Error("decode: sample " + std::to_string(i) + " has no frames");
    request.samples[i].frames.assign(indices.data(), indices.data() + indices.size());
    const auto rows = views[i].cast<Array<double>>();
    if (rows.ndim() != 2 || rows.shape(1) != 6) throw Error("views must be float64 [num_views, 6]: clip, top, left, height, width, flip");
    const auto row = rows.unchecked<2>();
    for (py::ssize_t v = 0; v < rows.shape(0); ++v) {
      const bool is_box = std::isfinite(row(v, 1)) && std::isfinite(row(v, 2)) && row(v, 3) > 0 && std::isfinite(row(v, 3)) &&
                          row(v, 4) > 0 && std::isfinite(row(v, 4));
      if (!is_box || !(row(v, 0) >= 0 && row(v, 0) < INT32_MAX)) {
        throw Error("decode: view " + std::to_string(v) + " of sample " + std::to_string(i) + " has no box of finite, positive size");
      }
      request.samples[i].views.push_back({int(row(v, 0)), {row(v, 1), row(v, 2), row(v, 3), row(v, 4), row(v, 5) != 0}});
    }
  }
  owned.memory = std::move(memory);
  const GilRelease release;
  owned.batch->decode(std::move(request));
}

// As decode(), of what is drawn here. Samples that failed are left out.
void draw(OwnedBatch& owned, const TransformSpec& spec, const DrawRules& rules, uint64_t seed, int64_t epoch,
          const std::vector<int64_t>& indices, const std::vector<int64_t>& draws, int64_t stands_for, double fps, uintptr_t out,
          const std::array<ptrdiff_t, 6>& strides, py::object memory) {
  const Batch& batch = *owned.batch;
  if (indices.size() != batch.infos().size() || draws.size() != indices.size()) throw Error("one index and one draw per sample are needed");
  DecodeRequest request = request_of(spec, rules.clip_len, indices.size(), out, strides);
  for (size_t i = 0; i < indices.size(); ++i) {
    if (batch.errors()[i]) continue;
    const SampleInfo& info = batch.infos()[i];
    const SampleStream stream = {seed, epoch, indices[i], draws[i], stands_for};
    DrawnSample sample = draw_sample(rules, stream, info.num_frames, fps > 0 ? fps : info.average_fps, info.height, info.width,
                                     info.index ? info.index->stream.shown_aspect_ratio().value() : 1.0);
    request.samples[i].frames = std::move(sample.frames);
    for (const DrawnView& view : sample.views) {
      request.samples[i].views.push_back({view.clip, {view.top, view.left, view.height, view.width, view.flip}});
    }
  }
  owned.memory = std::move(memory);
  const GilRelease release;
  owned.batch->decode(std::move(request));
}

Sampling sampling_of(const std::string& name) {
  if (name == "segments") return Sampling::segments;
  if (name == "dense") return Sampling::dense;
  if (name == "uniform") return Sampling::uniform;
  if (name == "slowfast") return Sampling::slowfast;
  throw Error("sampling '" + name + "' is unknown to the core");
}

Crop crop_of(const std::string& name) {
  if (name == "random_resized_crop") return Crop::random_resized;
  if (name == "multi_scale_crop") return Crop::multi_scale;
  if (name == "random_crop") return Crop::random;
  if (name == "center_crop") return Crop::center;
  if (name == "three_crop") return Crop::three;
  if (name == "ten_crop") return Crop::ten;
  throw Error("crop '" + name + "' is unknown to the core");
}

void bind_draw_rules(py::module_& module) {
  py::class_<DrawRules>(module, "DrawRules", "How samples are drawn, where vidload.sampling and vidload.transforms name it themselves.")
      .def(py::init([](const std::string& sampling, const std::array<int, 3>& clip, int num_repeats, bool is_training, bool repeats_last,
                       const std::string& crop, const std::pair<int, int>& size, double flip, bool square_pixels) {
             DrawRules rules;
             rules.sampling = sampling_of(sampling);
             rules.clip_len = clip[0], rules.frame_interval = clip[1], rules.num_clips = clip[2];
             rules.num_repeats = num_repeats, rules.is_training = is_training, rules.repeats_last = repeats_last;
             rules.crop = crop_of(crop), rules.crop_name = crop;
             rules.height = size.first, rules.width = size.second, rules.flip = flip, rules.square_pixels = square_pixels;
             return rules;
           }),
           py::kw_only(), py::arg("sampling"), py::arg("clip"), py::arg("num_repeats"), py::arg("is_training"), py::arg("repeats_last"),
           py::arg("crop"), py::arg("size"), py::arg("flip"), py::arg("square_pixels"))
      .def_property(
          "short_side", [](const DrawRules& rules) { return std::make_pair(rules.min_short_side, rules.max_short_side); },
          [](DrawRules& rules, const std::pair<int, int>& range) {
            rules.min_short_side = range.first, rules.max_short_side = range.second;
          })
      .def_property(
          "area_and_log_ratio",
          [](const DrawRules& rules) {
            return std::array<double, 4>{rules.min_area, rules.max_area, rules.log_min_ratio, rules.log_max_ratio};
          },
          [](DrawRules& rules, const std::array<double, 4>& ranges) {
            rules.min_area = ranges[0], rules.max_area = ranges[1], rules.log_min_ratio = ranges[2], rules.log_max_ratio = ranges[3];
          })
      .def_readwrite("num_positions", &DrawRules::num_positions)
      .def_readwrite("crop_sizes", &DrawRules::crop_sizes)
      .def(
          "draw",
          [](const DrawRules& rules, uint64_t seed, int64_t epoch, int64_t index, int64_t draw, int64_t stands_for, int64_t num_frames,
             double fps, int64_t height, int64_t width, double pixel_aspect) {
            const DrawnSample sample =
                draw_sample(rules, {seed, epoch, index, draw, stands_for}, num_frames, fps, height, width, pixel_aspect);
            py::list views;
            for (const DrawnView& view : sample.views) {
              views.append(py::make_tuple(view.clip, view.top, view.left, view.height, view.width, view.flip));
            }
            return py::make_tuple(sample.frames, views);
          },
          "(frames, views) of one sample, for comparison.");
}

py::dict stats_dict(const LoadStats& stats) {
  py::dict result;
  result["num_samples"] = stats.num_samples;
  result["num_failed"] = stats.num_failed;
  result["num_files_scanned"] = stats.num_files_scanned;
  result["num_files_decoded"] = stats.num_files_decoded;
  result["num_entries_refused"] = stats.num_entries_refused;
  result["num_frames"] = stats.num_frames;
  result["num_packets_decoded"] = stats.num_packets_decoded;
  result["num_packets_dropped"] = stats.num_packets_dropped;
  result["num_packets_skipped"] = stats.num_packets_skipped;
  result["bytes_read"] = stats.bytes_read;
  result["num_nvdec_samples"] = stats.num_nvdec_samples;
  result["num_decoders_opened"] = stats.num_decoders_opened;
  result["num_nvdec_creations"] = stats.num_nvdec_creations;
  py::dict fallbacks;
  for (int i = 0; i < kNumFallbacks; ++i) {
    if (stats.num_fallbacks[size_t(i)] > 0) fallbacks[fallback_name(Fallback(i))] = stats.num_fallbacks[size_t(i)];
  }
  result["fallbacks"] = fallbacks;
  result["index_seconds"] = stats.index_seconds;
  result["read_seconds"] = stats.read_seconds;
  result["decode_seconds"] = stats.decode_seconds;
  result["transform_seconds"] = stats.transform_seconds;
  return result;
}

}  // namespace

void bind_loader(py::module_& module) {
  bind_draw_rules(module);
  py::class_<TransformSpec>(module, "TransformSpec")
      .def(py::init([](int height, int width, const std::string& dtype, bool antialias, const std::optional<std::array<float, 3>>& mean,
                       const std::optional<std::array<float, 3>>& std) {
             TransformSpec spec = {};
             spec.height = height, spec.width = width, spec.dtype = dtype_of(dtype), spec.antialias = antialias;
             spec.normalize = mean.has_value();
             for (size_t i = 0; i < 3; ++i) spec.mean[i] = mean ? (*mean)[i] : 0.0F, spec.std[i] = std ? (*std)[i] : 1.0F;
             return spec;
           }),
           py::arg("height"), py::arg("width"), py::arg("dtype"), py::arg("antialias"), py::arg("mean"), py::arg("std"));

  py::class_<LoaderPool, std::shared_ptr<LoaderPool>>(module, "LoaderPool", "Decoding threads; 0 means the calling thread.")
      .def(py::init([](int num_threads, int device, const std::string& decoder, bool strict) {
             std::optional<CudaTarget> target;
             if (device >= 0) target = CudaTarget{device, cuda_decoding(decoder), strict};
             const GilRelease release;
             auto pool = std::make_shared<LoaderPool>(num_threads, target);
             if (num_threads == 0) pool->set_caller_cancel(&python_signals());  // the calling thread decodes: Ctrl-C ends it
             return pool;
           }),
           py::arg("num_threads"), py::arg("device") = -1, py::arg("decoder") = "auto", py::arg("strict") = false,
           "device: number of the GPU that batches are in the memory of, or -1. decoder: auto, cpu or nvdec, for a GPU.")
      .def(
          "set_consumer", [](LoaderPool& pool, uintptr_t stream) { pool.set_consumer(reinterpret_cast<CUstream>(stream)); },
          py::arg("stream"), "The CUDA stream on which batches' memory is handed over and used; the default stream until then.")
      .def_property_readonly(
          "is_usable", [](LoaderPool& pool) { return pool.threads().is_usable(); },
          "False in a child that was forked after the threads started.")
      .def("stats", [](LoaderPool& pool) { return stats_dict(pool.stats()); });

  py::class_<IndexFile>(module, "IndexFile", "A dataset's index file, from which entries are read.")
      .def(py::init([](const FilePath& path) { return IndexFile{open_file(path)}; }), py::arg("path"));

  module.def(
      "frame_name", [](const std::string& name_format, int64_t number) { return FrameName(name_format).of(number); },
      py::arg("name_format"), py::arg("number"), "The file name of a folder's frame. Raises ValueError for a format that makes no sense.");

  py::class_<OwnedBatch>(module, "Batch", "One batch under way: indexed, then decoded into the caller's memory.")
      .def(
          py::init([](std::shared_ptr<LoaderPool> pool, const std::vector<FilePath>& paths, const std::optional<Array<int64_t>>& stored,
                      const IndexFile* index_file, const std::optional<std::vector<int>>& streams) {
            std::vector<SampleSource> sources = video_sources(paths, stored, index_file);
            if (streams && streams->size() != paths.size()) throw Error("one stream per path is needed");
            for (size_t i = 0; streams && i < sources.size(); ++i) sources[i].stream = (*streams)[i];
            return std::make_unique<OwnedBatch>(std::move(pool), std::move(sources));
          }),
          py::arg("pool"), py::arg("paths"), py::arg("stored") = py::none(), py::arg("index_file") = py::none(),
          py::arg("streams") = py::none(),
          "stored: int64 [len(paths), 4], where in index_file the entry of a path is and of which file it was made: offset, size (0: there "
          "is none), the file's size and mtime in ns.")
      .def_static(
          "of_frames",
          [](std::shared_ptr<LoaderPool> pool, const std::vector<FilePath>& folders, const std::string& name_format,
             const std::vector<int64_t>& first_numbers, const std::vector<int64_t>& num_frames) {
            return std::make_unique<OwnedBatch>(std::move(pool), frame_sources(folders, name_format, first_numbers, num_frames));
          },
          py::arg("pool"), py::arg("folders"), py::arg("name_format"), py::arg("first_numbers"), py::arg("num_frames"))
      .def("wait", &wait_for, py::arg("timeout_seconds") = -1.0,
           "False if the time is up first. Negative: no limit. Raises what is no video's fault: MemoryError, OSError, RuntimeError.")
      .def("cancel", [](OwnedBatch& owned) { owned.batch->cancel(); })
      .def(
          "infos",
          [](const OwnedBatch& owned) {
            const Batch& batch = *owned.batch;
            py::list result;
            for (size_t i = 0; i < batch.infos().size(); ++i) {
              const SampleInfo& info = batch.infos()[i];
              if (batch.errors()[i]) {
                result.append(py::none());
              } else {
                result.append(py::make_tuple(info.num_frames, info.average_fps, info.height, info.width, info.index));
              }
            }
            return result;
          },
          "(num_frames, average_fps, height, width, PacketIndex or None) of each sample, None where it failed; after wait().")
      .def(
          "errors",
          [](const OwnedBatch& owned) {
            py::list result;
            for (const std::exception_ptr& error : owned.batch->errors()) {
              try {
                if (error) std::rethrow_exception(error);
                result.append(py::none());
              } catch (const VideoError& video_error) {
                result.append(python_error(video_error));
              }
            }
            return result;
          },
          "A VideoError or None for each sample; after wait().")
      .def("draw", &draw, py::arg("spec"), py::arg("rules"), py::arg("seed"), py::arg("epoch"), py::arg("indices"), py::arg("draws"),
           py::arg("stands_for"), py::arg("fps"), py::arg("out"), py::arg("strides"), py::arg("memory"),
           "As decode(), of frames and boxes drawn by `rules`. fps: of all videos, 0 = each its own.")
      .def("decode", &decode, py::arg("spec"), py::arg("clip_len"), py::arg("frames"), py::arg("views"), py::arg("out"), py::arg("strides"),
           py::arg("memory"),
           "Starts decoding to address `out`, which `memory` owns. frames: int64 [clips * clip_len] per sample, or None to leave it out; "
           "views: float64 [V, 6] per sample; strides "
           "(sample, view, frame, channel, row, column) in elements.");
}

}  // namespace vidload
