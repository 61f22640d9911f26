#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <mutex>
#include <tuple>

#include "batch/batch.h"
#include "batch/frame_folder_sample.h"
#include "batch/video_list.h"
#include "batch/video_sample.h"
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

using Samples = std::vector<std::unique_ptr<const Sample>>;

// stored: of the sources.
Samples video_samples(std::vector<SourceId> sources, const std::optional<Array<int64_t>>& stored, const IndexFile* file,
                      bool needs_whole_indexes) {
  const bool has_stored = stored && file;
  if (has_stored && (stored->ndim() != 2 || stored->shape(0) != py::ssize_t(sources.size()) || stored->shape(1) != 4))
    throw Error("stored must be int64 [N, 4], a row per source: offset, size, file size, mtime");
  Samples samples;
  for (size_t i = 0; i < sources.size(); ++i) {
    StoredIndex entry;
    if (has_stored) {
      const int64_t* facts = stored->data(py::ssize_t(i), 0);
      if (facts[1] > 0) entry = {file->source, facts[0], facts[1], {facts[2], facts[3]}};
    }
    samples.push_back(std::make_unique<VideoSample>(std::move(sources[i]), -1, std::move(entry), needs_whole_indexes));
  }
  return samples;
}

Samples listed_samples(const VideoList& videos, const std::vector<int64_t>& rows, bool needs_whole_indexes) {
  Samples samples;
  samples.reserve(rows.size());
  for (const int64_t row : rows) samples.push_back(videos.sample(row, needs_whole_indexes));
  return samples;
}

Samples frame_folder_samples(const std::vector<FilePath>& folders, const std::string& name_format,
                             const std::vector<int64_t>& first_numbers, const std::vector<int64_t>& num_frames) {
  if (num_frames.size() != folders.size() || first_numbers.size() != folders.size()) {
    throw Error("one first number and one num_frames per folder are needed");
  }
  const auto frame_name = std::make_shared<const FrameName>(name_format);
  Samples samples;
  for (size_t i = 0; i < folders.size(); ++i) {
    samples.push_back(std::make_unique<FrameFolderSample>(folders[i].native(), frame_name, first_numbers[i], num_frames[i]));
  }
  return samples;
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
  OwnedBatch(std::shared_ptr<LoaderPool> pool, Samples samples, bool waits_for_draw = false) {
    const GilRelease release;  // without threads the files are indexed here
    batch = std::make_unique<Batch>(std::move(pool), std::move(samples), waits_for_draw);
  }
  ~OwnedBatch() {
    const double patience_seconds = num_left_behind() == 0 ? kPatienceSeconds : 0;
    bool has_ended = false;
    {
      const GilRelease release;
      has_ended = batch->end(patience_seconds);
      if (has_ended) batch.reset();
    }
    std::vector<LeftBehind> ended;  // let go of after the lock: what owns memory may be Python's
    const std::lock_guard<std::mutex> lock(left_mutex());
    auto& left = left_behind();
    const auto first = std::partition(left.begin(), left.end(), [](const LeftBehind& other) { return !other.batch->end(0); });
    std::move(first, left.end(), std::back_inserter(ended));
    left.erase(first, left.end());
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
  // for good. The mutex is locked only by threads that are in Python, with a GIL or without, and nothing under it runs Python or waits: a
  // fork finds it unlocked.
  struct LeftBehind {
    py::object memory;
    std::unique_ptr<Batch> batch;
  };
  static std::vector<LeftBehind>& left_behind() {
    static auto* left = new std::vector<LeftBehind>;  // never destroyed
    return *left;
  }
  static std::mutex& left_mutex() {
    static auto* mutex = new std::mutex;
    return *mutex;
  }
  static size_t num_left_behind() {
    const std::lock_guard<std::mutex> lock(left_mutex());
    return left_behind().size();
  }
};

// Waits without the GIL, but lets Ctrl-C through twice a second: in a thread whose code has left the caches, each time costs about 100 us.
bool wait_for(OwnedBatch& owned, double timeout_seconds) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  while (true) {
    double left = 0.5;
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

// Of a batch of one spec, in elements.
struct BatchStrides {
  ptrdiff_t sample = 0;
  SampleStrides of_sample;
};

DecodeRequest request_of(const TransformSpec& spec, int clip_len, size_t num_samples, uintptr_t out, const BatchStrides& strides) {
  DecodeRequest request(num_samples, {{}, spec, clip_len, reinterpret_cast<uint8_t*>(out), strides.of_sample});
  const ptrdiff_t bytes = strides.sample * element_size(spec.dtype);
  for (size_t i = 0; i < num_samples; ++i) request[i].out += ptrdiff_t(i) * bytes;
  return request;
}

bool is_sound(const DrawnView& view) {
  return view.clip >= 0 && std::isfinite(view.top) && std::isfinite(view.left) && view.height > 0 && std::isfinite(view.height) &&
         view.width > 0 && std::isfinite(view.width);
}

void start(OwnedBatch& owned, DecodeRequest request, const py::list& frames, const py::list& views, py::object memory) {
  if (views.size() != frames.size()) throw Error("one array of views per sample is needed");
  for (size_t i = 0; i < frames.size(); ++i) {
    if (frames[i].is_none()) continue;
    const auto indices = frames[i].cast<Array<int64_t>>();
    // None leaves a sample out; without frames its place in the batch would stay unwritten.
    if (indices.size() == 0) throw Error("decode: sample " + std::to_string(i) + " has no frames");
    if (!py::isinstance<Array<DrawnView>>(views[i])) throw Error("decode: views must be contiguous arrays of the dtype VIEW");
    const auto rows = views[i].cast<Array<DrawnView>>();
    DrawnSample& sample = request[i].drawn;
    sample.frames.assign(indices.data(), indices.data() + indices.size());
    sample.views.assign(rows.data(), rows.data() + rows.size());
    for (size_t v = 0; v < sample.views.size(); ++v) {
      if (is_sound(sample.views[v])) continue;
      throw Error("decode: view " + std::to_string(v) + " of sample " + std::to_string(i) + " has no box of finite, positive size");
    }
  }
  owned.memory = std::move(memory);
  const GilRelease release;
  owned.batch->decode(std::move(request));
}

void decode(OwnedBatch& owned, const TransformSpec& spec, int clip_len, const py::list& frames, const py::list& views, uintptr_t out,
            const BatchStrides& strides, py::object memory) {
  start(owned, request_of(spec, clip_len, frames.size(), out, strides), frames, views, std::move(memory));
}

// Where a sample goes: spec, clip_len, address, strides.
using Slot = std::tuple<TransformSpec, int, uintptr_t, BatchStrides>;

void decode_each(OwnedBatch& owned, const py::list& frames, const py::list& views, const std::vector<std::optional<Slot>>& slots,
                 py::object memory) {
  if (slots.size() != frames.size()) throw Error("one slot per sample is needed");
  DecodeRequest request(slots.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].has_value() == frames[i].is_none()) throw Error("decode: frames and a slot go together");
    if (!slots[i]) continue;
    const auto& [spec, clip_len, out, strides] = *slots[i];
    request[i] = {{}, spec, clip_len, reinterpret_cast<uint8_t*>(out), strides.of_sample};
  }
  start(owned, std::move(request), frames, views, std::move(memory));
}

// As decode(), of what threads draw by the rules.
void draw(OwnedBatch& owned, const TransformSpec& spec, const DrawRules& rules, uint64_t seed, int64_t epoch, std::vector<int64_t> indices,
          std::vector<int64_t> draws, int64_t stands_for, double fps, uintptr_t out, const BatchStrides& strides, py::object memory) {
  Batch& batch = *owned.batch;
  if (indices.size() != batch.errors().size() || draws.size() != indices.size())
    throw Error("one index and one draw per sample are needed");
  Batch::Draw draw_one = [rules, seed, epoch, indices = std::move(indices), draws = std::move(draws), stands_for, fps](
                             size_t i, const SampleInfo& info) {
    const SampleStream stream = {seed, epoch, indices[i], draws[i], stands_for};
    return draw_sample(rules, stream, info.num_frames, fps > 0 ? fps : info.average_fps, info.height, info.width,
                       info.index ? info.index->stream.shown_aspect_ratio().value() : 1.0);
  };
  owned.memory = std::move(memory);
  const GilRelease release;
  batch.draw(request_of(spec, rules.clip_len, batch.errors().size(), out, strides), std::move(draw_one));
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
  result["num_nvdec_samples"] = stats.num_hardware_samples;
  result["num_decoders_opened"] = stats.num_decoders_opened;
  result["num_nvdec_creations"] = stats.num_hardware_creations;
  result["bytes_uploaded"] = stats.bytes_uploaded;
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

// Arrays are taken as they are, never converted: the list lies in their memory.
template <typename T>
using Rows = py::array_t<T, py::array::c_style>;

template <typename T, typename As = T>
Column<As> column(const std::optional<Rows<T>>& rows) {
  if (!rows) return {};
  return {reinterpret_cast<const As*>(rows->data()), int64_t(rows->size() * sizeof(T) / sizeof(As))};
}

void bind_video_list(py::module_& module) {
  static_assert(sizeof(VideoList::StoredEntry) == 4 * sizeof(int64_t));
  using Parts = std::tuple<std::vector<FilePath>, std::vector<std::pair<int64_t, int64_t>>>;
  py::class_<VideoList>(module, "VideoList", "The videos of a dataset, in arrays that it keeps.")
      .def(py::init([](const Rows<int32_t>& name_ends, const Rows<uint8_t>& name_bytes, const std::optional<Rows<int64_t>>& streams,
                       const std::optional<Rows<int64_t>>& stored, const IndexFile* index_file, const Parts& files,
                       const std::optional<Rows<int32_t>>& part_files, const std::optional<Rows<int64_t>>& part_offsets,
                       const std::optional<Rows<int64_t>>& part_sizes) {
             VideoList videos;
             videos.name_ends = column<int32_t>(name_ends);
             videos.name_bytes = column<uint8_t, char>(name_bytes);
             videos.streams = column<int64_t>(streams);
             if (stored && stored->size() % 4 != 0) throw Error("stored must be int64 [N, 4]: offset, size, file size, mtime");
             videos.entries = column<int64_t, VideoList::StoredEntry>(stored);
             if (index_file) videos.index_file = index_file->source;
             for (const FilePath& file : std::get<0>(files)) videos.files.push_back(file.native());
             for (const auto& [size, mtime_ns] : std::get<1>(files)) videos.files_listed.push_back({size, mtime_ns});
             videos.part_files = column<int32_t>(part_files);
             videos.part_offsets = column<int64_t>(part_offsets);
             videos.part_sizes = column<int64_t>(part_sizes);
             videos.check();
             return videos;
           }),
           py::kw_only(), py::arg("name_ends").noconvert(), py::arg("name_bytes").noconvert(), py::arg("streams").noconvert() = py::none(),
           py::arg("stored").noconvert() = py::none(), py::arg("index_file") = py::none(), py::arg("files") = Parts(),
           py::arg("part_files").noconvert() = py::none(), py::arg("part_offsets").noconvert() = py::none(),
           py::arg("part_sizes").noconvert() = py::none(), py::keep_alive<1, 2>(), py::keep_alive<1, 3>(), py::keep_alive<1, 4>(),
           py::keep_alive<1, 5>(), py::keep_alive<1, 8>(), py::keep_alive<1, 9>(), py::keep_alive<1, 10>(),
           "Of N videos: name_ends int32 [N + 1] in name_bytes; streams int64 [N], the video stream to read, -1 for FFmpeg's choice; "
           "stored: as "
           "of Batch. Of those that are parts: files are (names, sizes and mtimes when their parts were listed), and part_files int32 [N], "
           "part_offsets and part_sizes int64 [N] say which part of which file, with a size of -1 for a whole file.");
}

}  // namespace

void bind_loader(py::module_& module) {
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
             const Decoding decoding = decoding_of(decoder);
             const GilRelease release;
             const CudaDevice* gpu = device < 0 ? nullptr : &CudaDevice::get(device);
             auto pool = std::make_shared<LoaderPool>(num_threads, gpu, DecodePolicy{decoding, strict, hardware_decoders(gpu)});
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
      .def(py::init([](const FilePath& path) { return IndexFile{open_source(SourceId(path.native()))}; }), py::arg("path"));

  bind_video_list(module);

  module.def(
      "frame_name", [](const std::string& name_format, int64_t number) { return FrameName(name_format).of(number); },
      py::arg("name_format"), py::arg("number"), "The file name of a folder's frame. Raises ValueError for a format that makes no sense.");

  py::class_<SampleInfo>(module, "SampleInfo", "What is known of a sample. index: a PacketIndex, None where it is no video.")
      .def(py::init([](int64_t num_frames, double average_fps, int64_t height, int64_t width, std::shared_ptr<PacketIndex> index) {
             return SampleInfo{num_frames, width, height, average_fps, std::move(index)};
           }),
           py::kw_only(), py::arg("num_frames"), py::arg("average_fps"), py::arg("height"), py::arg("width"), py::arg("index") = py::none())
      .def_readonly("num_frames", &SampleInfo::num_frames)
      .def_readonly("average_fps", &SampleInfo::average_fps)
      .def_readonly("height", &SampleInfo::height)
      .def_readonly("width", &SampleInfo::width)
      .def_property_readonly("index", [](const SampleInfo& info) { return std::const_pointer_cast<PacketIndex>(info.index); });

  py::class_<BatchStrides>(module, "Strides", "Of a batch's memory, in elements.")
      .def(py::init([](ptrdiff_t sample, ptrdiff_t view, ptrdiff_t frame, ptrdiff_t channel, ptrdiff_t row, ptrdiff_t column) {
             return BatchStrides{sample, {view, frame, channel, row, column}};
           }),
           py::kw_only(), py::arg("sample"), py::arg("view"), py::arg("frame"), py::arg("channel"), py::arg("row"), py::arg("column"));

  py::class_<OwnedBatch>(module, "Batch", "One batch under way: indexed, then decoded into the caller's memory.")
      .def(py::init([](std::shared_ptr<LoaderPool> pool, std::vector<SourceId> sources, const std::optional<Array<int64_t>>& stored,
                       const IndexFile* index_file, bool needs_whole_indexes) {
             return std::make_unique<OwnedBatch>(std::move(pool),
                                                 video_samples(std::move(sources), stored, index_file, needs_whole_indexes));
           }),
           py::arg("pool"), py::arg("sources"), py::arg("stored") = py::none(), py::arg("index_file") = py::none(),
           py::arg("needs_whole_indexes") = false,
           "stored: int64 [N, 4], where in index_file the entry of a source is and of which file it was made: offset, size (0: there is "
           "none), the file's size and mtime in ns.")
      .def_static(
          "of_videos",
          [](std::shared_ptr<LoaderPool> pool, const VideoList& videos, const std::vector<int64_t>& rows, bool needs_whole_indexes,
             bool waits_for_draw) {
            return std::make_unique<OwnedBatch>(std::move(pool), listed_samples(videos, rows, needs_whole_indexes), waits_for_draw);
          },
          py::arg("pool"), py::arg("videos"), py::arg("rows"), py::arg("needs_whole_indexes") = false, py::arg("waits_for_draw") = false,
          "waits_for_draw: nothing starts before draw(), and then each sample is one task.")
      .def_static(
          "of_frames",
          [](std::shared_ptr<LoaderPool> pool, const std::vector<FilePath>& folders, const std::string& name_format,
             const std::vector<int64_t>& first_numbers, const std::vector<int64_t>& num_frames, bool waits_for_draw) {
            return std::make_unique<OwnedBatch>(std::move(pool), frame_folder_samples(folders, name_format, first_numbers, num_frames),
                                                waits_for_draw);
          },
          py::arg("pool"), py::arg("folders"), py::arg("name_format"), py::arg("first_numbers"), py::arg("num_frames"),
          py::arg("waits_for_draw") = false)
      .def("wait", &wait_for, py::arg("timeout_seconds") = -1.0,
           "False if the time is up first. Negative: no limit. Raises what is no video's fault: MemoryError, OSError, RuntimeError.")
      .def("cancel", [](OwnedBatch& owned) { owned.batch->cancel(); })
      .def(
          "infos",
          [](const OwnedBatch& owned) {
            const Batch& batch = *owned.batch;
            std::vector<std::optional<SampleInfo>> result(batch.infos().size());
            for (size_t i = 0; i < result.size(); ++i) {
              if (!batch.errors()[i]) result[i] = batch.infos()[i];
            }
            return result;
          },
          "What is known of each sample, None where it failed; after wait().")
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
           "As decode(), of frames and boxes that threads draw by `rules` as soon as a sample is known; there is no need to wait() before. "
           "fps: of all videos, 0 = each its own.")
      .def(
          "drawn_frames",
          [](const OwnedBatch& owned) {
            py::list result;
            for (const SampleRequest& sample : owned.batch->request()) {
              result.append(py::array_t<int64_t>(py::ssize_t(sample.drawn.frames.size()), sample.drawn.frames.data()));
            }
            return result;
          },
          "int64 [clips * clip_len] per sample: the frames that were decoded, empty where there are none; after the last wait().")
      .def("decode", &decode, py::arg("spec"), py::arg("clip_len"), py::arg("frames"), py::arg("views"), py::arg("out"), py::arg("strides"),
           py::arg("memory"),
           "Starts decoding to address `out`, which `memory` owns. frames: int64 [clips * clip_len] per sample, or None to leave it out; "
           "views: VIEW [V] per sample.")
      .def("decode_each", &decode_each, py::arg("frames"), py::arg("views"), py::arg("slots"), py::arg("memory"),
           "As decode(), each sample to its own slot: (spec, clip_len, address, strides); None where frames are None.");
}

}  // namespace vidload
