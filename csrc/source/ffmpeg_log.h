// ffmpeg_log: what FFmpeg says of the file that a thread is at work on: the last error goes into the error that may follow, and all of it
// waits to be handed on (to Python's logging, by bindings/) instead of going to stderr. See Note [Whose log it is].
#pragma once

#include <string>
#include <vector>

namespace vidload {

// From now on FFmpeg's warnings and errors go to the FfmpegWords of the thread, if it has one. With `is_printed` FFmpeg prints them as
// ever.
void keep_ffmpeg_words(bool is_printed);

// The last error line that FFmpeg logs on this thread while the object lives (the innermost one), and the name of the file it is about.
class FfmpegWords {
 public:
  explicit FfmpegWords(const std::string& path);  // which must outlive it
  ~FfmpegWords();
  FfmpegWords(const FfmpegWords&) = delete;
  FfmpegWords& operator=(const FfmpegWords&) = delete;

  // Such as "h264: error while decoding MB 3 0", printable ASCII; else empty.
  std::string last() const { return line_; }
  void forget() { line_[0] = '\0'; }

  // How often the H.264 or HEVC decoder has made up pictures that the stream lacks, for others to refer to. It says so in its log alone.
  // 0 without an FfmpegWords on this thread.
  static int num_made_up_pictures();

 private:
  friend struct FfmpegLogAccess;
  const std::string& path_;
  char line_[256] = "";
  int num_made_up_pictures_ = 0;
  FfmpegWords* outer_;
};

struct FfmpegLine {
  bool is_error;     // else a warning
  std::string text;  // the file's name, and what FFmpeg said
};
// Whether take_ffmpeg_lines() would give any. Costs nothing.
bool has_ffmpeg_lines();
// The lines of all threads since the last call, oldest first. Those that came while too many were waiting are lost.
std::vector<FfmpegLine> take_ffmpeg_lines();

}  // namespace vidload
