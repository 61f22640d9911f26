#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "batch/file_attempt.h"
#include "batch/index_cache.h"
#include "bindings/bindings.h"
#include "decode/open_video.h"
#include "source/container.h"

namespace py = pybind11;

namespace vidload {
namespace {

template <typename T>
py::array_t<T> copied(const std::vector<T>& values) {
  return py::array_t<T>(py::ssize_t(values.size()), values.data());
}

}  // namespace

void bind_index(py::module_& module) {
  py::class_<PacketIndex, std::shared_ptr<PacketIndex>>(module, "PacketIndex", "What is known of a video; see csrc/index/packet_index.h.")
      .def_property_readonly("num_frames", &PacketIndex::num_frames)
      .def_property_readonly("num_packets", &PacketIndex::num_packets)
      .def_readonly("is_regular", &PacketIndex::is_regular)
      .def_readonly("is_byte_addressable", &PacketIndex::is_byte_addressable)
      .def_readonly("is_cut_short", &PacketIndex::is_cut_short)
      .def_readonly("note", &PacketIndex::note)
      .def_property_readonly("stamp", [](const PacketIndex& index) { return std::make_pair(index.stamp.size, index.stamp.mtime_ns); })
      .def_property_readonly("stream_number", [](const PacketIndex& index) { return index.stream.stream_number; })
      .def_property_readonly("sample_aspect_ratio",
                             [](const PacketIndex& index) {
                               const Rational ratio = index.stream.shown_aspect_ratio();
                               return std::make_pair(ratio.num, ratio.den);
                             })
      .def_property_readonly("container", [](const PacketIndex& index) { return index.stream.container; })
      .def_property_readonly("codec", [](const PacketIndex& index) { return index.stream.codec; })
      .def_property_readonly("pixel_format", [](const PacketIndex& index) { return index.stream.pixel_format; })
      .def_property_readonly("width", [](const PacketIndex& index) { return index.stream.width(); })
      .def_property_readonly("height", [](const PacketIndex& index) { return index.stream.height(); })
      .def_property_readonly("coded_width", [](const PacketIndex& index) { return index.stream.coded_width; })
      .def_property_readonly("coded_height", [](const PacketIndex& index) { return index.stream.coded_height; })
      .def_property_readonly("rotation", [](const PacketIndex& index) { return index.stream.rotation; })
      .def_property_readonly("is_mirrored", [](const PacketIndex& index) { return index.stream.is_mirrored; })
      .def_property_readonly("color_space", [](const PacketIndex& index) { return index.stream.color_space; })
      .def_property_readonly("color_range", [](const PacketIndex& index) { return index.stream.color_range; })
      .def_property_readonly("color_primaries", [](const PacketIndex& index) { return index.stream.color_primaries; })
      .def_property_readonly("color_transfer", [](const PacketIndex& index) { return index.stream.color_transfer; })
      .def_property_readonly(
          "time_base", [](const PacketIndex& index) { return std::make_pair(index.stream.time_base.num, index.stream.time_base.den); })
      .def_property_readonly("average_fps", [](const PacketIndex& index) { return index.stream.average_fps.value(); })
      .def_property_readonly("duration_seconds", [](const PacketIndex& index) { return index.stream.duration_seconds; })
      .def_property_readonly(
          "frame_pts", [](const PacketIndex& index) { return copied(index.frame_pts); }, "int64 ticks, a frame each")
      .def_property_readonly("frame_packet", [](const PacketIndex& index) { return copied(index.frame_packet); })
      .def_property_readonly(
          "packet_sizes", [](const PacketIndex& index) { return copied(index.size); }, "int32, in decode order")
      .def_property_readonly(
          "packet_offsets", [](const PacketIndex& index) { return copied(index.offset); },
          "int64, in decode order: where the payload is in the file, if is_byte_addressable")
      .def_property_readonly(
          "packet_flags", [](const PacketIndex& index) { return copied(index.flags); },
          "uint8, in decode order: 1 keyframe, 2 droppable, 4 hidden, 8 discarded, 16 untrusted")
      .def("to_bytes",
           [](const PacketIndex& index) {
             const std::vector<uint8_t> bytes = index.to_bytes();
             return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
           })
      .def_static("from_bytes", [](const py::bytes& bytes) {
        const std::string_view view = bytes;
        return std::make_shared<PacketIndex>(PacketIndex::from_bytes(reinterpret_cast<const uint8_t*>(view.data()), view.size()));
      });

  module.def(
      "index_file",
      [](const FilePath& path, int stream, bool must_decode) {
        const GilRelease release;
        std::shared_ptr<PacketIndex> index;
        attempt_file(path,
                     [&] { index = std::make_shared<PacketIndex>(index_video(*open_file(path), stream, must_decode, &python_signals())); });
        return index;
      },
      py::arg("path"), py::arg("stream") = -1, py::arg("must_decode") = false,
      "Scans a file, past the cache; with must_decode its frames are listed by decoding it. Raises VideoError, OSError.");
  module.def(
      "streams",
      [](const FilePath& path) {
        std::vector<StreamSummary> streams;
        {
          const GilRelease release;
          const std::unique_ptr<ByteSource> source = open_file(path);
          streams = Container(*source, -1, &python_signals()).streams();
        }
        py::list result;
        for (const StreamSummary& stream : streams) {
          result.append(py::make_tuple(stream.number, stream.kind, stream.codec, stream.width, stream.height, stream.is_chosen));
        }
        return result;
      },
      py::arg("path"), "(number, kind, codec, width, height, is the one that is read by default) of each stream of a file.");
  module.def(
      "file_stamp",
      [](const FilePath& path) {
        const GilRelease release;
        const FileStamp stamp = file_stamp(path);
        return std::make_pair(stamp.size, stamp.mtime_ns);
      },
      py::arg("path"), "(size, mtime in ns) of a file. Raises VideoError when there is none.");
  module.def("clear_index_cache", [] { IndexCache::instance().clear(); });
  module.def("index_cache_bytes", [] { return IndexCache::instance().bytes_held(); });
}

}  // namespace vidload
