#include "source/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace vidload {
namespace {

[[noreturn]] void throw_errno(const std::string& path, const char* action) {
  const int code = errno;
  if (!is_file_error(code)) throw MachineError(code, path, action);
  const auto kind = code == ENOENT || code == ENOTDIR ? VideoErrorKind::not_found : VideoErrorKind::unreadable;
  throw VideoError(kind, path, -1, std::string(action) + ": " + std::strerror(code));
}

FileStamp stamp_of(const struct stat& facts, const std::string& path) {
  if (!S_ISREG(facts.st_mode)) {
    throw VideoError(VideoErrorKind::unreadable, path, -1, "not a regular file; give the path of a video");
  }
  if (facts.st_size == 0) throw VideoError(VideoErrorKind::unreadable, path, -1, "the file is empty");
  return {int64_t{facts.st_size}, int64_t{facts.st_mtim.tv_sec} * 1000000000 + facts.st_mtim.tv_nsec};
}

class FileSource final : public ByteSource {
 public:
  explicit FileSource(const std::string& path) : path_(path) {
    // O_NONBLOCK: opening a FIFO must fail the check below, not wait for a writer.
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) throw_errno(path, "cannot open");
    struct stat facts;
    try {
      if (::fstat(descriptor_, &facts) != 0) throw_errno(path, "cannot stat");
      stamp_ = stamp_of(facts, path);
    } catch (...) {
      ::close(descriptor_);
      throw;
    }
  }
  ~FileSource() override { ::close(descriptor_); }
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;

  int64_t read(int64_t offset, uint8_t* out, int64_t size) const override {
    int64_t done = 0;
    while (done < size) {
      const ssize_t got = ::pread(descriptor_, out + done, size_t(size - done), off_t(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw_errno(path_, "cannot read");
      if (got == 0 && offset + done < stamp_.size) throw_changed();  // it was longer when it was opened
      if (got == 0) break;
      done += got;
    }
    return done;
  }
  int64_t size() const override { return stamp_.size; }
  FileStamp stamp() const override { return stamp_; }
  void check_unchanged() const override {
    struct stat facts;
    if (::fstat(descriptor_, &facts) != 0) throw_errno(path_, "cannot stat");
    if (facts.st_size == 0 || !(stamp_of(facts, path_) == stamp_)) throw_changed();
  }
  const std::string& name() const override { return path_; }

 private:
  [[noreturn]] void throw_changed() const {
    throw VideoError(VideoErrorKind::unreadable, path_, -1, "the file changed while it was read; load it again when it is complete");
  }

  std::string path_;
  int descriptor_ = -1;
  FileStamp stamp_;
};

class MemorySource final : public ByteSource {
 public:
  MemorySource(const uint8_t* data, int64_t size, std::shared_ptr<void> owner) : data_(data), size_(size), owner_(std::move(owner)) {
    if (size <= 0) throw VideoError(VideoErrorKind::unreadable, name_, -1, "the buffer is empty");
  }
  int64_t read(int64_t offset, uint8_t* out, int64_t size) const override {
    const int64_t count = std::clamp<int64_t>(size_ - offset, 0, size);
    if (count > 0) std::memcpy(out, data_ + offset, size_t(count));
    return count;
  }
  int64_t size() const override { return size_; }
  const std::string& name() const override { return name_; }

 private:
  const uint8_t* data_;
  int64_t size_;
  std::shared_ptr<void> owner_;
  std::string name_ = "<bytes>";
};

}  // namespace

FileStamp file_stamp(const std::string& path) {
  struct stat facts;
  if (::stat(path.c_str(), &facts) != 0) throw_errno(path, "cannot open");
  return stamp_of(facts, path);
}

std::unique_ptr<ByteSource> open_file(const std::string& path) { return std::make_unique<FileSource>(path); }

std::unique_ptr<ByteSource> open_bytes(const uint8_t* data, int64_t size, std::shared_ptr<void> owner) {
  return std::make_unique<MemorySource>(data, size, std::move(owner));
}

}  // namespace vidload
