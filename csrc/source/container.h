// container: libavformat over a ByteSource. Opens the container, picks the video stream and hands out its packets in
// decode order. libavformat sees neither the path nor any protocol, and only formats that hold their own bytes are opened, so that no
// playlist, no second file and no network can be reached through it (Note [Plain containers only]).
#pragma once

#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "source/av_handles.h"
#include "source/byte_source.h"

namespace vidload {

// One stream of a container, as the container states it.
struct StreamSummary {
  int number = 0;     // within the container
  std::string kind;   // "video", "audio", "subtitle", "data", "attachment"
  std::string codec;  // FFmpeg's name
  int width = 0, height = 0;
  bool is_chosen = false;  // what is read where no stream is asked for
};

class Container {
 public:
  // Throws VideoError when the bytes are no container FFmpeg knows, or hold no video stream, or `stream` (a number within the container;
  // -1: FFmpeg's best video stream) is none; MachineError when they cannot be read. `source` and `cancel` must outlive it. `read_size`: the
  // least that is read at a time.
  explicit Container(const ByteSource& source, int stream = -1, const Cancel* cancel = nullptr, int read_size = 64 << 10);
  ~Container();
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  // The next packet of the video stream. Returns false at the end, and where the container is damaged so that nothing more can be read
  // from it; end_error() then tells. Throws MachineError, or VideoError when the file changed or reading was cancelled.
  bool read(AVPacket* packet);
  // FFmpeg's code when read() ended on damage, else 0.
  int end_error() const { return end_error_; }
  // Goes to a byte position; false if this container cannot.
  bool seek_to_byte(int64_t position);

  AVFormatContext* format() const { return format_; }
  AVStream* stream() const { return stream_; }
  std::vector<StreamSummary> streams() const;
  // Whether libavformat split the packets itself (MPEG-TS, raw streams): timestamps are then partly guesses.
  bool is_parsed() const { return is_parsed_; }

 private:
  struct Position {
    const ByteSource* source;
    const Cancel* cancel;
    int64_t offset = 0;
    std::exception_ptr failure;  // of a read: exceptions must not cross FFmpeg's C frames, so it waits here
  };
  static int read_bytes(void* opaque, uint8_t* buffer, int size);
  static int64_t seek_bytes(void* opaque, int64_t offset, int whence);
  void open(int stream, int read_size);
  void rethrow_failure();
  void close();

  Position position_;
  AVIOContext* io_ = nullptr;
  AVFormatContext* format_ = nullptr;
  AVStream* stream_ = nullptr;
  int best_stream_ = -1;
  int end_error_ = 0;
  bool is_parsed_ = false;
};

}  // namespace vidload
