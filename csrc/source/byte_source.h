// byte_source: the bytes of one video, readable at any offset by any thread, wherever they are: in a file, in a part of one, in memory.
// Positions are the caller's business, so that one source serves several readers at once. open_source and stamp_of are the one place that
// knows where bytes come from.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/cancel.h"

namespace vidload {

// What tells whether a file is still the one that was scanned. Of a part: that of the whole file.
struct FileStamp {
  int64_t size = -1;
  int64_t mtime_ns = -1;
  bool operator==(const FileStamp& other) const { return size == other.size && mtime_ns == other.mtime_ns; }
};

// Where the bytes of a video are: a file, an object on a network, or a part of one (a member of an archive).
struct SourceId {
  explicit SourceId(std::string path) : file(path), name(std::move(path)) {}
  SourceId() = default;
  SourceId(std::string of_file, int64_t first_byte, int64_t num_bytes, std::string shown_name)
      : file(std::move(of_file)), offset(first_byte), size(num_bytes), name(std::move(shown_name)) {}

  std::string file;               // a path, or a URL such as "s3://bucket/name"
  int64_t offset = 0, size = -1;  // of the part; -1: all of the file
  std::string name;               // what messages call it
  FileStamp listed;               // of the file when its parts were listed; with a size of -1: not known

  bool is_part() const { return size >= 0; }
  bool operator<(const SourceId& other) const {
    return std::tie(file, offset, size, name) < std::tie(other.file, other.offset, other.size, other.name);
  }
};

struct ByteRange {
  int64_t begin = 0, end = 0;
};

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Reads up to `size` bytes at `offset`; returns how many there were (0 at the end). Throws VideoError, or MachineError when the
  // machine cannot read it.
  virtual int64_t read(int64_t offset, uint8_t* out, int64_t size) const = 0;
  virtual int64_t size() const = 0;
  // What messages call it: SourceId::name, or "<bytes>".
  virtual const std::string& name() const = 0;
  // Of the file when it was opened; memory has none.
  virtual FileStamp stamp() const { return {}; }
  // These will be read soon. Where a read waits for a network they are asked for now, all together; elsewhere this does nothing.
  // NOLINTNEXTLINE(performance-unnecessary-value-param): some keep them
  virtual void prefetch(std::vector<ByteRange> ranges) const { (void)ranges; }
  // Throws VideoError when the file is no longer the one that was opened: what was read of it may be of two files.
  virtual void check_unchanged() const {}
};

// One that reads another in a way of its own, and is the same file in all else. `source` must outlive it.
class SourceOver : public ByteSource {
 public:
  int64_t size() const override { return source_.size(); }
  const std::string& name() const override { return source_.name(); }
  FileStamp stamp() const override { return source_.stamp(); }
  void prefetch(std::vector<ByteRange> ranges) const override { source_.prefetch(std::move(ranges)); }
  void check_unchanged() const override { source_.check_unchanged(); }

 protected:
  explicit SourceOver(const ByteSource& source) : source_(source) {}
  const ByteSource& source_;
};

// Of the file as it is now. Throws VideoError when there is no such regular file, or it changed since its parts were listed; MachineError
// when the machine cannot tell. `cancel`: what ends a wait for a network.
FileStamp stamp_of(const SourceId& id, const Cancel* cancel = nullptr);

// Open, and closed with the object. `cancel` must outlive it. `known`: the stamp that its index has, or stamp_of gave, so that a server
// need not be asked for it: who gives it must call check_unchanged() after reading. Throws as stamp_of, and VideoError for a part that is
// not within the file.
std::unique_ptr<ByteSource> open_source(const SourceId& id, const Cancel* cancel = nullptr, const FileStamp* known = nullptr);

// Borrowed memory; `owner` keeps it alive.
std::unique_ptr<ByteSource> open_bytes(const uint8_t* data, int64_t size, std::shared_ptr<void> owner);

}  // namespace vidload
