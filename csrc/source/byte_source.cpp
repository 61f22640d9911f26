#include "source/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "source/remote_source.h"

namespace vidload {
namespace {

[[noreturn]] void throw_errno(const std::string& path, const char* action) {
  const int code = errno;
  if (!is_file_error(code)) throw MachineError(code, path, action);
  const auto kind = code == ENOENT || code == ENOTDIR ? VideoErrorKind::not_found : VideoErrorKind::unreadable;
  throw VideoError(kind, path, -1, std::string(action) + ": " + std::strerror(code));
}

FileStamp checked_stamp(const struct stat& facts, const std::string& name) {
  if (!S_ISREG(facts.st_mode)) {
    throw VideoError(VideoErrorKind::unreadable, name, -1, "not a regular file; give the path of a video");
  }
  if (facts.st_size == 0) throw VideoError(VideoErrorKind::unreadable, name, -1, "the file is empty");
  return {int64_t{facts.st_size}, int64_t{facts.st_mtim.tv_sec} * 1000000000 + facts.st_mtim.tv_nsec};
}

class FileSource final : public ByteSource {
 public:
  // All of the file.
  explicit FileSource(const SourceId& id) : name_(id.name) {
    // O_NONBLOCK: opening a FIFO must fail the check below, not wait for a writer.
    descriptor_ = ::open(id.file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) throw_errno(name_, "cannot open");
    struct stat facts;
    try {
      if (::fstat(descriptor_, &facts) != 0) throw_errno(name_, "cannot stat");
      stamp_ = checked_stamp(facts, name_);
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
      if (got < 0) throw_errno(name_, "cannot read");
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
    if (::fstat(descriptor_, &facts) != 0) throw_errno(name_, "cannot stat");
    if (facts.st_size == 0 || !(checked_stamp(facts, name_) == stamp_)) throw_changed();
  }
  const std::string& name() const override { return name_; }

 private:
  [[noreturn]] void throw_changed() const {
    throw VideoError(VideoErrorKind::unreadable, name_, -1, "the file changed while it was read; load it again when it is complete");
  }

  std::string name_;
  int descriptor_ = -1;
  FileStamp stamp_;
};

class PartSource final : public ByteSource {
 public:
  PartSource(std::unique_ptr<ByteSource> whole, int64_t offset, int64_t size) : whole_(std::move(whole)), offset_(offset), size_(size) {
    if (size == 0) throw VideoError(VideoErrorKind::unreadable, name(), -1, "the file is empty");
    if (offset < 0 || offset > whole_->size() || size > whole_->size() - offset) {
      throw VideoError(VideoErrorKind::unreadable, name(), -1,
                       "bytes [" + std::to_string(offset) + ", " + std::to_string(offset + size) + ") are not within its file, which has " +
                           std::to_string(whole_->size()) + "; the file is cut short, or not the one that the list was made of");
    }
  }

  int64_t read(int64_t offset, uint8_t* out, int64_t size) const override {
    const int64_t count = std::clamp<int64_t>(size_ - offset, 0, size);
    return offset < 0 || count == 0 ? 0 : whole_->read(offset_ + offset, out, count);
  }
  void prefetch(std::vector<ByteRange> ranges) const override {
    for (ByteRange& range : ranges) range = {offset_ + range.begin, offset_ + std::min(range.end, size_)};
    whole_->prefetch(std::move(ranges));
  }
  int64_t size() const override { return size_; }
  const std::string& name() const override { return whole_->name(); }
  FileStamp stamp() const override { return whole_->stamp(); }
  void check_unchanged() const override { whole_->check_unchanged(); }

 private:
  const std::unique_ptr<ByteSource> whole_;
  const int64_t offset_, size_;
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

static void check_listed(const SourceId& id, const FileStamp& stamp) {
  if (id.listed.size < 0 || stamp == id.listed) return;
  throw VideoError(VideoErrorKind::unreadable, id.name, -1,
                   id.file + " changed since its members were listed; make the dataset again, and its index");
}

FileStamp stamp_of(const SourceId& id, const Cancel* cancel) {
  FileStamp stamp;
  if (is_remote(id.file)) {
    stamp = remote_stamp(id, cancel);
  } else {
    struct stat facts;
    if (::stat(id.file.c_str(), &facts) != 0) throw_errno(id.name, "cannot open");
    stamp = checked_stamp(facts, id.name);
  }
  check_listed(id, stamp);
  return stamp;
}

std::unique_ptr<ByteSource> open_source(const SourceId& id, const Cancel* cancel, const FileStamp* known) {
  std::unique_ptr<ByteSource> whole;
  if (is_remote(id.file)) {
    whole = open_remote(id, cancel, known);
  } else {
    whole = std::make_unique<FileSource>(id);
  }
  check_listed(id, whole->stamp());
  if (!id.is_part()) return whole;
  return std::make_unique<PartSource>(std::move(whole), id.offset, id.size);
}

std::unique_ptr<ByteSource> open_bytes(const uint8_t* data, int64_t size, std::shared_ptr<void> owner) {
  return std::make_unique<MemorySource>(data, size, std::move(owner));
}

}  // namespace vidload
