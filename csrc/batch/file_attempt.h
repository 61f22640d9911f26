// file_attempt: whose fault is a failure, the file's or the machine's? A file is called bad only for its own faults.
#pragma once

#include <cerrno>
#include <new>
#include <string>

#include "base/error.h"
#include "source/av_handles.h"
#include "source/ffmpeg_log.h"

namespace vidload {

// Whether the machine gives out as much memory as a decoder of large pictures takes. Nothing is touched.
bool has_memory();

// `error` with what FFmpeg said last, where its contents are the matter.
VideoError with_ffmpeg_words(const VideoError& error, const FfmpegWords& words);

// Runs `step`, which works on the file `path`, and which may be run twice. Throws VideoError where the file is at fault; std::bad_alloc
// where there is no memory; any other exception as it is. See Note [Short of memory].
template <typename Step>
void attempt_file(const std::string& path, Step step) {
  FfmpegWords words(path);
  for (bool is_second = false;; is_second = true) {
    words.forget();
    errno = 0;
    try {
      step();
      if (errno != ENOMEM) return;
      if (!has_memory()) throw std::bad_alloc();
      if (is_second) return;
    } catch (const VideoError& error) {
      const bool was_short = errno == ENOMEM || error.av_error() == AVERROR(ENOMEM);
      const bool is_content = error.kind() == VideoErrorKind::unreadable || error.kind() == VideoErrorKind::unsupported ||
                              error.kind() == VideoErrorKind::damaged;
      if (!is_content) throw;
      if (!has_memory()) throw std::bad_alloc();
      if (!was_short || is_second) throw with_ffmpeg_words(error, words);
    } catch (const std::bad_alloc&) {
      if (!has_memory()) throw;
      if (is_second) {
        throw VideoError(VideoErrorKind::unreadable, path, -1,
                         "needs more memory than the machine can give; leave the file out, or replace it with an intact copy");
      }
    }
  }
}

// Note [Short of memory]
// Where memory is short, FFmpeg may say so (ENOMEM), call the stream damaged, leave out a table, or give a wrong picture without a word.
// But malloc leaves ENOMEM in errno, which no successful call takes away: a step that ends with it there is not believed. It may also be
// the file's doing: broken sizes make FFmpeg ask for gigabytes, or for more than it ever gives. So if memory can be had, the step is run
// once more. What failed by chance succeeds then, and such a file fails again.

}  // namespace vidload
