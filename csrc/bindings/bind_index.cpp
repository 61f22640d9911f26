#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "batch/file_attempt.h"
#include "batch/index_cache.h"
#include "bindings/bindings.h"
#include "decode/open_video.h"
#include "source/container.h"
#include "source/ffmpeg_log.h"

namespace py = pybind11;

namespace vidload {
namespace {

template <typename T>
py::array_t<T> copied(const std::vector<T>& values) {
  return py::array_t<T>(py::ssize_t(values.size()), values.data());
}

// csrc/index/packet_index.h says what each means.
void bind_packet_flags(py::module_& module) {
  module.attr("PACKET_KEYFRAME") = int(kKeyframe);
  module.attr("PACKET_DROPPABLE") = int(kDroppable);
  module.attr("PACKET_HIDDEN") = int(kHidden);
  module.attr("PACKET_DISCARD") = int(kDiscard);
  module.attr("PACKET_UNTRUSTED") = int(kUntrusted);
  module.attr("PACKET_CONTAINER_KEY") = int(kContainerKey);
  module.attr("PACKET_DAMAGED") = int(kDamaged);
}

// H.273 numbers, and FFmpeg's for ranges, by the names of the transform's matrices.
void bind_colors(py::module_& module) {
  module.attr("COLOR_SPACE_RGB") = int(AVCOL_SPC_RGB);
  module.attr("COLOR_SPACE_BT709") = int(AVCOL_SPC_BT709);
  module.attr("COLOR_SPACE_UNSTATED") = int(AVCOL_SPC_UNSPECIFIED);
  module.attr("COLOR_SPACE_FCC") = int(AVCOL_SPC_FCC);
  module.attr("COLOR_SPACE_BT470BG") = int(AVCOL_SPC_BT470BG);
  module.attr("COLOR_SPACE_SMPTE170M") = int(AVCOL_SPC_SMPTE170M);
  module.attr("COLOR_SPACE_SMPTE240M") = int(AVCOL_SPC_SMPTE240M);
  module.attr("COLOR_SPACE_BT2020_NCL") = int(AVCOL_SPC_BT2020_NCL);
  module.attr("COLOR_SPACE_BT2020_CL") = int(AVCOL_SPC_BT2020_CL);
  module.attr("COLOR_TRANSFER_BT2020_10") = int(AVCOL_TRC_BT2020_10);
  module.attr("COLOR_RANGE_UNSTATED") = int(AVCOL_RANGE_UNSPECIFIED);
  module.attr("COLOR_RANGE_LIMITED") = int(AVCOL_RANGE_MPEG);
  module.attr("COLOR_RANGE_FULL") = int(AVCOL_RANGE_JPEG);
}

}  // namespace

void bind_index(py::module_& module) {
  bind_packet_flags(module);
  bind_colors(module);
  py::class_<StreamSummary>(module, "StreamSummary", "One stream of a container, as the container states it.")
      .def_readonly("number", &StreamSummary::number)
      .def_readonly("kind", &StreamSummary::kind)
      .def_readonly("codec", &StreamSummary::codec)
      .def_readonly("width", &StreamSummary::width)
      .def_readonly("height", &StreamSummary::height)
      .def_readonly("is_chosen", &StreamSummary::is_chosen);
  py::class_<PacketIndex, std::shared_ptr<PacketIndex>>(module, "PacketIndex", "What is known of a video; see csrc/index/packet_index.h.")
      .def_property_readonly("num_frames", &PacketIndex::num_frames)
      .def_property_readonly("num_packets", &PacketIndex::num_packets)
      .def_readonly("is_regular", &PacketIndex::is_regular)
      .def_readonly("is_provisional", &PacketIndex::is_provisional)
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
          "uint8, in decode order: sums of PACKET_KEYFRAME, PACKET_DROPPABLE, ...")
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
      [](const SourceId& source, int stream, bool must_decode) {
        const IndexDepth depth = must_decode ? IndexDepth::decoded : IndexDepth::packets;
        const GilRelease release;
        std::shared_ptr<PacketIndex> index;
        const auto read = [&] { return index_video(*open_source(source, &python_signals()), stream, depth, &python_signals()); };
        attempt_file(source.name, [&] { index = std::make_shared<PacketIndex>(read()); });
        return index;
      },
      py::arg("source"), py::arg("stream") = -1, py::arg("must_decode") = false,
      "Scans all packets of a file, past the cache; with must_decode its frames are listed by decoding it. Raises VideoError, OSError.");
  module.def(
      "streams",
      [](const SourceId& source) {
        const GilRelease release;
        const FfmpegWords words(source.name);
        const std::unique_ptr<ByteSource> bytes = open_source(source, &python_signals());
        return Container(*bytes, -1, &python_signals()).streams();
      },
      py::arg("source"), "All streams of a file.");
  module.def(
      "stamp_of",
      [](const SourceId& source) {
        const GilRelease release;
        const FileStamp stamp = stamp_of(source, &python_signals());
        return std::make_pair(stamp.size, stamp.mtime_ns);
      },
      py::arg("source"),
      "(size, mtime in ns) of a file; of an object, a number made of its ETag in the place of the mtime. Raises VideoError when there is "
      "none.");
  module.def("clear_index_cache", [] { IndexCache::instance().clear(); });
  module.def("index_cache_bytes", [] { return IndexCache::instance().bytes_held(); });
}

}  // namespace vidload
