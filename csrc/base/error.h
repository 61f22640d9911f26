// error: the exceptions of the core; the bindings turn each into its Python class. The words are those of the place that throws;
// av_error_text (source/av_handles.h) has FFmpeg's for its negative codes.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace vidload {

// A wrong argument or a broken promise of the caller: ValueError in Python.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Which Python class a VideoError becomes, by error_kind_name.
enum class VideoErrorKind {
  not_found,
  unreadable,
  unsupported,
  damaged,
  frame_index,
  cancelled,
  index_mismatch,  // the decoder gives other frames than the packets' headers and times promised; listing them by a decode helps
  limit,           // it asks for more than VideoLimits allow
};

// "not_found" and so on.
const char* error_kind_name(VideoErrorKind kind);

// Something about one video file. `frame` is the frame index concerned, -1 when it is the file as a whole.
class VideoError : public Error {
 public:
  VideoError(VideoErrorKind kind, std::string path, int64_t frame, std::string reason, int av_error = 0);

  VideoErrorKind kind() const { return kind_; }
  const std::string& path() const { return path_; }
  int64_t frame() const { return frame_; }
  const std::string& reason() const { return reason_; }
  int av_error() const { return av_error_; }  // FFmpeg's code, 0 when FFmpeg was not involved

 private:
  VideoErrorKind kind_;
  std::string path_;
  int64_t frame_;
  std::string reason_;
  int av_error_;
};

// The machine failed to read a file, whatever is in it: EIO, ESTALE, EMFILE, ...: OSError in Python, with errno and the file. (No memory is
// std::bad_alloc, MemoryError; no thread and a failure of CUDA are a std::runtime_error, RuntimeError.) It is never taken for a bad file,
// whatever a loader does with those.
class MachineError : public std::runtime_error {
 public:
  MachineError(int error_number, std::string path, const std::string& action);

  int error_number() const { return error_number_; }
  const std::string& path() const { return path_; }
  const std::string& action() const { return action_; }

 private:
  int error_number_;
  std::string path_, action_;
};

// Whether an errno says something about the file itself (it is not there, may not be read, is a folder), not about the machine.
bool is_file_error(int error_number);

}  // namespace vidload
