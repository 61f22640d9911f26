// Bytes for Python, wherever they are; and the requests of source/remote_source, made by vidload.remote through fsspec.
#include <algorithm>
#include <cerrno>
#include <string_view>

#include "bindings/bindings.h"
#include "source/remote_source.h"

namespace py = pybind11;

namespace vidload {
namespace {

class PythonFetcher final : public RemoteFetcher {
 public:
  double look_up(const SourceId& id, const std::shared_ptr<RemoteReply>& reply) override {
    const py::gil_scoped_acquire acquire;
    return py::module_::import("vidload.remote").attr("look_up")(file_name(id.file), reply).cast<double>();
  }
  double fetch(const SourceId& id, const FileStamp& stamp, ByteRange range, const std::shared_ptr<RemoteReply>& reply) override {
    const py::gil_scoped_acquire acquire;
    const py::object fetch = py::module_::import("vidload.remote").attr("fetch");
    return fetch(file_name(id.file), stamp.size, stamp.mtime_ns, range.begin, range.end, reply).cast<double>();
  }
};

// What the request for `name` failed for, as vidload.remote tells it.
std::exception_ptr failure_of(const std::string& name, const std::string& kind, const std::string& reason) {
  if (kind == "missing") return std::make_exception_ptr(VideoError(VideoErrorKind::not_found, name, -1, reason));
  if (kind == "refused") return std::make_exception_ptr(VideoError(VideoErrorKind::unreadable, name, -1, reason));
  if (kind == "timeout") return std::make_exception_ptr(MachineError(ETIMEDOUT, name, reason));
  if (kind == "network") return std::make_exception_ptr(MachineError(EIO, name, reason));
  return std::make_exception_ptr(std::runtime_error(name + ": " + reason));
}

}  // namespace

void bind_source(py::module_& module) {
  static PythonFetcher fetcher;
  set_remote_fetcher(&fetcher);
  py::class_<ByteSource>(module, "ByteSource", "The bytes of a file, of an object on a network, or of a part of one.")
      .def(py::init([](const SourceId& source) {
             const GilRelease release;
             return open_source(source, &python_signals());
           }),
           py::arg("source"))
      .def_property_readonly("size", &ByteSource::size)
      .def_property_readonly(
          "stamp", [](const ByteSource& source) { return std::make_pair(source.stamp().size, source.stamp().mtime_ns); },
          "Of the whole file, as stamp_of gives it.")
      .def(
          "read",
          [](const ByteSource& source, int64_t offset, int64_t size) {
            const int64_t count = std::clamp<int64_t>(source.size() - offset, 0, std::max<int64_t>(size, 0));
            py::bytes data(nullptr, size_t(count));
            auto* const out = reinterpret_cast<uint8_t*>(PyBytes_AS_STRING(data.ptr()));
            int64_t done = 0;
            {
              const GilRelease release;
              done = offset < 0 ? 0 : source.read(offset, out, count);
            }
            if (done < count) throw VideoError(VideoErrorKind::unreadable, source.name(), -1, "it ended before its size");
            return data;
          },
          py::arg("offset"), py::arg("size"), "Up to `size` bytes at `offset`; fewer at the end.")
      .def(
          "check_unchanged",
          [](const ByteSource& source) {
            const GilRelease release;
            source.check_unchanged();
          },
          "Raises VideoError where the file is no longer the one that was opened.");
  py::class_<RemoteReply, std::shared_ptr<RemoteReply>>(module, "RemoteReply", "Where the answer to a request for a URL goes, once.")
      .def_property_readonly("is_wanted", &RemoteReply::is_wanted, "False where nobody waits for it any more.")
      .def(
          "succeed_with_bytes",
          [](RemoteReply& reply, const py::bytes& data) {
            const std::string_view view = data;
            const GilRelease release;
            reply.succeed(std::vector<uint8_t>(view.begin(), view.end()));
          },
          py::arg("data"))
      .def(
          "succeed_with_stamp", [](RemoteReply& reply, int64_t size, int64_t tag) { reply.succeed(FileStamp{size, tag}); }, py::arg("size"),
          py::arg("tag"))
      .def(
          "fail",
          [](RemoteReply& reply, const FilePath& name, const std::string& kind, const std::string& reason) {
            reply.fail(failure_of(name.native(), kind, reason));
          },
          py::arg("name"), py::arg("kind"), py::arg("reason"), "kind: missing, refused, timeout, network or setup.");
}

}  // namespace vidload
