// container: libavformat over a ByteSource. Opens the container, picks the video stream and hands out its packets in
// decode order. libavformat never sees the path, so no protocol, playlist or second file can be reached through it.
#pragma once

#include <memory>

#include "source/av_handles.h"
#include "source/byte_source.h"

namespace vidload {

class Container {
 public:
  // Throws VideoError when the bytes are no container FFmpeg knows, or hold no video stream.
  explicit Container(const ByteSource& source);
  ~Container();
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  // The next packet of the video stream. Returns false at the end, also when the file is cut short there.
  bool read(AVPacket* packet);

  AVFormatContext* format() const { return format_; }
  AVStream* stream() const { return stream_; }
  // Whether libavformat split the packets itself (MPEG-TS, raw streams): timestamps are then partly guesses.
  bool is_parsed() const { return is_parsed_; }

 private:
  struct Position {
    const ByteSource* source;
    int64_t offset = 0;
  };
  static int read_bytes(void* opaque, uint8_t* buffer, int size);
  static int64_t seek_bytes(void* opaque, int64_t offset, int whence);
  void close();

  Position position_;
  AVIOContext* io_ = nullptr;
  AVFormatContext* format_ = nullptr;
  AVStream* stream_ = nullptr;
  bool is_parsed_ = false;
};

}  // namespace vidload
