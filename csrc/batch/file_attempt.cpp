#include "batch/file_attempt.h"

#include <cstdlib>

namespace vidload {

bool has_memory() {
  constexpr size_t kRoom = 256 << 20;              // what decoding 4096x2304 pictures takes
  void* volatile const room = std::malloc(kRoom);  // volatile: a compiler may leave out a malloc that is only freed
  std::free(room);
  return room != nullptr;
}

VideoError with_ffmpeg_words(const VideoError& error, const FfmpegWords& words) {
  const std::string last = words.last();
  if (last.empty()) return error;
  return VideoError(error.kind(), error.path(), error.frame(), error.reason() + " [" + last + "]", error.av_error());
}

}  // namespace vidload
