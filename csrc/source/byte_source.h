// byte_source: the bytes of one video, from a file or from memory, readable at any offset by any thread.
// Positions are the caller's business, so that one source serves several readers at once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace vidload {

// What tells whether a file is still the one that was scanned.
struct FileStamp {
  int64_t size = -1;
  int64_t mtime_ns = -1;
  bool operator==(const FileStamp& other) const { return size == other.size && mtime_ns == other.mtime_ns; }
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
  // What messages call it: the path, or "<bytes>".
  virtual const std::string& name() const = 0;
  // Of the file when it was opened; memory has none.
  virtual FileStamp stamp() const { return {}; }
  // Throws VideoError when the file is no longer the one that was opened: what was read of it may be of two files.
  virtual void check_unchanged() const {}
};

// Throws VideoError when there is no such regular file, MachineError when the machine cannot tell.
FileStamp file_stamp(const std::string& path);

// An open file; closed with the object. Throws as file_stamp.
std::unique_ptr<ByteSource> open_file(const std::string& path);

// Borrowed memory; `owner` keeps it alive.
std::unique_ptr<ByteSource> open_bytes(const uint8_t* data, int64_t size, std::shared_ptr<void> owner);

}  // namespace vidload
