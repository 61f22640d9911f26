// ffmpeg_log: what FFmpeg says of the file that a thread is at work on, for the error that may follow, instead of on stderr.
#pragma once

#include <string>

namespace vidload {

// From now on FFmpeg prints nothing; its errors go to the FfmpegWords of the thread. For the whole process.
void keep_ffmpeg_words();

// Keeps the last error line that FFmpeg logs on this thread while the object lives (the innermost one).
class FfmpegWords {
 public:
  FfmpegWords();
  ~FfmpegWords();
  FfmpegWords(const FfmpegWords&) = delete;
  FfmpegWords& operator=(const FfmpegWords&) = delete;

  // Such as "h264: error while decoding MB 3 0", printable ASCII; else empty.
  std::string last() const { return line_; }
  void forget() { line_[0] = '\0'; }

 private:
  friend void keep_ffmpeg_words();
  char line_[256] = "";
  char* outer_;
};

}  // namespace vidload
