#include "source/ffmpeg_log.h"

extern "C" {
#include <libavutil/log.h>
}

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace vidload {
namespace {

constexpr size_t kSize = 256;
constexpr int kMaxWaiting = 256;

// The innermost FfmpegWords of the thread. In the block of thread-local memory that every thread starts with: a library's own block is
// allocated at a thread's first use, and glibc ends the process when there is no memory for it.
__attribute__((tls_model("initial-exec"))) thread_local FfmpegWords* at_work = nullptr;

// Lines that wait, the newest first. No lock: a process may be forked while a thread is in here.
struct WaitingLine {
  WaitingLine* next;
  bool is_error;
  char text[];
};
std::atomic<WaitingLine*> waiting{nullptr};
std::atomic<int> num_waiting{0};

void let_wait(const std::string& path, bool is_error, const char* line) {
  if (num_waiting.fetch_add(1) >= kMaxWaiting) {
    num_waiting.fetch_sub(1);
    return;
  }
  const size_t line_size = std::strlen(line);
  auto* entry = static_cast<WaitingLine*>(std::malloc(sizeof(WaitingLine) + path.size() + 2 + line_size + 1));
  if (!entry) {
    num_waiting.fetch_sub(1);
    return;
  }
  entry->is_error = is_error;
  char* out = std::copy(path.begin(), path.end(), entry->text);
  out = std::copy_n(": ", 2, out);
  std::copy_n(line, line_size + 1, out);
  entry->next = waiting.load();
  while (!waiting.compare_exchange_weak(entry->next, entry)) {
  }
}

}  // namespace

struct FfmpegLogAccess {
  static_assert(sizeof FfmpegWords::line_ == kSize);
  static void keep(FfmpegWords& words, bool is_error, const char* line) {
    if (is_error) std::memcpy(words.line_, line, std::strlen(line) + 1);
    let_wait(words.path_, is_error, line);
  }
  static void note(FfmpegWords& words, const char* format) {
    for (const char* beginning : {"Frame num gap", "Could not find ref with POC"}) {  // H.264, HEVC; 4.4 to 9.0
      if (std::strncmp(format, beginning, std::strlen(beginning)) == 0) ++words.num_made_up_pictures_;
    }
  }
};

static std::atomic<bool> is_printed{false};

static void keep_line(void* context, int level, const char* format, va_list arguments) {
  if (at_work) FfmpegLogAccess::note(*at_work, format);
  if (!at_work || is_printed.load(std::memory_order_relaxed)) return av_log_default_callback(context, level, format, arguments);
  if ((level & 0xff) > AV_LOG_WARNING) return;
  const int earlier_error = errno;  // attempt_file looks at it
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
  FfmpegLogAccess::keep(*at_work, (level & 0xff) <= AV_LOG_ERROR, line);
  errno = earlier_error;
}

void keep_ffmpeg_words(bool prints) {
  is_printed = prints;
  av_log_set_callback(keep_line);
}

FfmpegWords::FfmpegWords(const std::string& path) : path_(path), outer_(at_work) { at_work = this; }
FfmpegWords::~FfmpegWords() { at_work = outer_; }

int FfmpegWords::num_made_up_pictures() { return at_work ? at_work->num_made_up_pictures_ : 0; }

bool has_ffmpeg_lines() { return waiting.load(std::memory_order_relaxed) != nullptr; }

std::vector<FfmpegLine> take_ffmpeg_lines() {
  std::vector<FfmpegLine> lines;
  for (WaitingLine* entry = waiting.exchange(nullptr); entry;) {
    try {
      lines.push_back({entry->is_error, entry->text});
    } catch (const std::bad_alloc&) {  // then the line is lost
    }
    WaitingLine* const next = entry->next;
    std::free(entry);
    num_waiting.fetch_sub(1);
    entry = next;
  }
  std::reverse(lines.begin(), lines.end());
  return lines;
}

// Note [Whose log it is]
// FFmpeg has one callback for the whole process, and no way to ask which it is. Ours is set once, when vidload._core is imported. It takes
// only what is logged by a thread inside an FfmpegWords, that is, at work for vidload; everything else, and all if VIDLOAD_FFMPEG_LOG is
// set, goes on to FFmpeg's own av_log_default_callback, so others who share the library see what they would have seen. A library that sets
// its callback later (PyAV, if it is built against the same libavutil; its wheels bring one of their own) has it for good: it is never set
// again, errors then come without FFmpeg's words, and before FFmpeg 8.1 pictures that the HEVC decoder made up pass for real ones. One
// that had set its own earlier does lose it; import vidload first. The callback calls no Python: it may run on any thread, with or without
// the GIL, and locks of FFmpeg's may be held.

}  // namespace vidload
