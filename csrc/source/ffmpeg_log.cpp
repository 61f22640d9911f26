#include "source/ffmpeg_log.h"

extern "C" {
#include <libavutil/log.h>
}

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace vidload {
namespace {

constexpr size_t kSize = 256;

// The line_ of the thread's innermost FfmpegWords. In the block of thread-local memory that every thread starts with: a library's own
// block is allocated at a thread's first use, and glibc ends the process when there is no memory for it.
__attribute__((tls_model("initial-exec"))) thread_local char* kept = nullptr;

void keep_line(void* context, int level, const char* format, va_list arguments) {
  if (!kept || (level & 0xff) > AV_LOG_ERROR) return;
  char line[kSize];
  const AVClass* about = context ? *static_cast<const AVClass**>(context) : nullptr;
  const int name_size = about ? std::snprintf(line, kSize / 2, "%s: ", about->item_name(context)) : 0;
  const size_t start = name_size <= 0 ? 0 : name_size < int(kSize / 2) ? size_t(name_size) : kSize / 2 - 1;
  if (std::vsnprintf(line + start, kSize - start, format, arguments) <= 0) return;
  size_t size = std::strlen(line);
  while (size > start && line[size - 1] == '\n') line[--size] = '\0';
  if (size == start) return;
  for (size_t i = 0; i < size; ++i) {  // a line may quote the file
    if (line[i] < ' ' || line[i] > '~') line[i] = '?';
  }
  std::memcpy(kept, line, size + 1);
}

}  // namespace

void keep_ffmpeg_words() {
  static_assert(sizeof FfmpegWords::line_ == kSize);
  av_log_set_callback(keep_line);
}

FfmpegWords::FfmpegWords() : outer_(kept) { kept = line_; }
FfmpegWords::~FfmpegWords() { kept = outer_; }

}  // namespace vidload
