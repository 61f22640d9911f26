// av_handles: owning aliases for FFmpeg's structs. What one class alone opens (a format context, a scaler), that class closes itself.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/frame.h>
}

#include <memory>
#include <string>

namespace vidload {

template <typename T, void (*free_function)(T**)>
struct AvDeleter {
  void operator()(T* pointer) const { free_function(&pointer); }
};

template <typename T, void (*close_function)(T*)>
struct AvCloser {
  void operator()(T* pointer) const { close_function(pointer); }
};

struct AvBufferDeleter {
  void operator()(AVBufferRef* buffer) const { av_buffer_unref(&buffer); }
};

using UniqueAVBuffer = std::unique_ptr<AVBufferRef, AvBufferDeleter>;
using UniqueAVPacket = std::unique_ptr<AVPacket, AvDeleter<AVPacket, av_packet_free>>;
using UniqueAVFrame = std::unique_ptr<AVFrame, AvDeleter<AVFrame, av_frame_free>>;
using UniqueAVCodecContext = std::unique_ptr<AVCodecContext, AvDeleter<AVCodecContext, avcodec_free_context>>;
using UniqueAVCodecParserContext = std::unique_ptr<AVCodecParserContext, AvCloser<AVCodecParserContext, av_parser_close>>;
using UniqueAVCodecParameters = std::unique_ptr<AVCodecParameters, AvDeleter<AVCodecParameters, avcodec_parameters_free>>;

// FFmpeg's own words for one of its error codes.
std::string av_error_text(int code);

// Throws std::bad_alloc when `code` says ENOMEM and memory is short indeed; see Note [Out of memory, or a file that asks for too much].
void throw_if_out_of_memory(int code);

}  // namespace vidload
