#include "source/container.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/error.h"

namespace vidload {

std::string av_error_text(int code) {
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(code, text, sizeof text);
  return text;
}

int Container::read_bytes(void* opaque, uint8_t* buffer, int size) {
  auto* position = static_cast<Position*>(opaque);
  try {
    const int64_t count = position->source->read(position->offset, buffer, size);
    position->offset += count;
    return count == 0 ? AVERROR_EOF : int(count);
  } catch (const VideoError&) {
    return AVERROR(EIO);  // exceptions must not cross FFmpeg's C frames
  }
}

int64_t Container::seek_bytes(void* opaque, int64_t offset, int whence) {
  auto* position = static_cast<Position*>(opaque);
  const int64_t size = position->source->size();
  switch (whence & ~AVSEEK_FORCE) {
    case AVSEEK_SIZE: return size;
    case SEEK_SET: break;
    case SEEK_CUR: offset += position->offset; break;
    case SEEK_END: offset += size; break;
    default: return AVERROR(EINVAL);
  }
  if (offset < 0) return AVERROR(EINVAL);
  return position->offset = offset;
}

// mov, Matroska and FLV state codec, size and pts for themselves. The others (AVI, MPEG-TS, raw streams) need libavformat to look
// into the packets first.
static bool states_its_streams(const AVFormatContext* format) {
  const char* name = format->iformat->name;
  return std::strstr(name, "mp4") || std::strstr(name, "matroska") || !std::strcmp(name, "flv");
}

Container::Container(const ByteSource& source) : position_{&source} {
  const std::string& name = source.name();
  constexpr int io_buffer_size = 64 << 10;
  try {
    io_ = avio_alloc_context(static_cast<unsigned char*>(av_malloc(io_buffer_size)), io_buffer_size, 0, &position_, read_bytes, nullptr,
                             seek_bytes);
    format_ = avformat_alloc_context();
    if (!io_ || !format_) throw std::bad_alloc();
    format_->pb = io_;
    // avformat_open_input frees format_ itself when it fails.
    int code = avformat_open_input(&format_, name.c_str(), nullptr, nullptr);
    if (code < 0) {
      throw VideoError(VideoErrorKind::unreadable, name, -1, "not a video container that FFmpeg can read (" + av_error_text(code) + ")",
                       code);
    }
    bool complete = states_its_streams(format_) && format_->nb_streams > 0 && !(format_->ctx_flags & AVFMTCTX_NOHEADER);
    for (unsigned i = 0; complete && i < format_->nb_streams; ++i) {
      const AVCodecParameters* parameters = format_->streams[i]->codecpar;
      if (parameters->codec_type == AVMEDIA_TYPE_VIDEO) complete = parameters->width > 0;
    }
    if (!complete) {
      is_parsed_ = !states_its_streams(format_);
      code = avformat_find_stream_info(format_, nullptr);
      if (code < 0) {
        throw VideoError(VideoErrorKind::unreadable, name, -1, "cannot find out what streams it holds (" + av_error_text(code) + ")", code);
      }
    }
    const int best = av_find_best_stream(format_, AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
    if (best < 0 || (format_->streams[best]->disposition & AV_DISPOSITION_ATTACHED_PIC)) {
      throw VideoError(VideoErrorKind::unsupported, name, -1, "holds no video stream");
    }
    stream_ = format_->streams[best];
    for (unsigned i = 0; i < format_->nb_streams; ++i) {
      if (int(i) != best) format_->streams[i]->discard = AVDISCARD_ALL;
    }
  } catch (...) {
    close();
    throw;
  }
}

Container::~Container() { close(); }

void Container::close() {
  avformat_close_input(&format_);
  if (io_) av_freep(&io_->buffer);
  avio_context_free(&io_);
}

bool Container::read(AVPacket* packet) {
  while (true) {
    av_packet_unref(packet);
    const int code = av_read_frame(format_, packet);
    if (code == AVERROR(EAGAIN)) continue;
    if (code < 0) return false;
    if (packet->stream_index == stream_->index && packet->size > 0) return true;
  }
}

}  // namespace vidload
