// Slow and obvious: decodes a file from its first packet to its last with the libraries that vidload is linked with, one thread, defaults
// throughout, and prints a line for each frame that comes out: an Adler-32 sum over the rows of its planes as shown, and decode_error_flags.
// Written without a look at vidload's own code.
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/adler32.h>
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
#include <stdio.h>

static void print_frame(const AVFrame* frame) {
  const AVPixFmtDescriptor* format = av_pix_fmt_desc_get(frame->format);
  unsigned long sum = 1;
  for (int plane = 0; plane < av_pix_fmt_count_planes(frame->format); ++plane) {
    const int is_chroma = (plane == 1 || plane == 2) && !(format->flags & AV_PIX_FMT_FLAG_RGB);
    const int rows = is_chroma ? AV_CEIL_RSHIFT(frame->height, format->log2_chroma_h) : frame->height;
    const int size = av_image_get_linesize(frame->format, frame->width, plane);
    for (int row = 0; row < rows; ++row) {
      sum = av_adler32_update(sum, frame->data[plane] + (ptrdiff_t)row * frame->linesize[plane], size);
    }
  }
  printf("%lu %d\n", sum, frame->decode_error_flags);
}

// The file's bytes, without libavformat's protocols: not every FFmpeg has them.
static int read_bytes(void* file, uint8_t* target, int size) {
  const size_t count = fread(target, 1, size, file);
  return count > 0 ? (int)count : AVERROR_EOF;
}

static int64_t seek_bytes(void* file, int64_t offset, int whence) {
  if (whence != AVSEEK_SIZE) return fseeko(file, offset, whence & ~AVSEEK_FORCE) == 0 ? ftello(file) : AVERROR(EIO);
  const int64_t position = ftello(file);
  fseeko(file, 0, SEEK_END);
  const int64_t size = ftello(file);
  fseeko(file, position, SEEK_SET);
  return size;
}

int main(int argc, char** argv) {
  av_log_set_level(AV_LOG_QUIET);
  FILE* file = argc == 2 ? fopen(argv[1], "rb") : NULL;
  if (!file) return 2;
  AVFormatContext* container = avformat_alloc_context();
  container->pb = avio_alloc_context(av_malloc(32768), 32768, 0, file, read_bytes, NULL, seek_bytes);
  if (avformat_open_input(&container, argv[1], NULL, NULL) < 0) return 2;
  if (avformat_find_stream_info(container, NULL) < 0) return 2;
  const int number = av_find_best_stream(container, AVMEDIA_TYPE_VIDEO, -1, -1, NULL, 0);
  if (number < 0) return 2;
  const AVCodec* codec = avcodec_find_decoder(container->streams[number]->codecpar->codec_id);
  if (!codec) return 2;
  AVCodecContext* context = avcodec_alloc_context3(codec);
  avcodec_parameters_to_context(context, container->streams[number]->codecpar);
  context->thread_count = 1;
  context->flags |= AV_CODEC_FLAG_UNALIGNED;
  context->pkt_timebase = container->streams[number]->time_base;
  if (avcodec_open2(context, codec, NULL) < 0) return 2;
  AVPacket* packet = av_packet_alloc();
  AVFrame* frame = av_frame_alloc();
  int is_end = 0;
  while (!is_end) {
    const int code = av_read_frame(container, packet);
    if (code == AVERROR(EAGAIN)) continue;
    is_end = code < 0;
    if (!is_end && (packet->stream_index != number || packet->size == 0)) {
      av_packet_unref(packet);
      continue;
    }
    avcodec_send_packet(context, is_end ? NULL : packet);
    av_packet_unref(packet);
    for (int errors = 0; errors < 64;) {
      const int got = avcodec_receive_frame(context, frame);
      if (got == AVERROR(EAGAIN) || got == AVERROR_EOF) break;
      if (got < 0) {
        if (!is_end) break;
        ++errors;
        continue;
      }
      print_frame(frame);
      av_frame_unref(frame);
    }
  }
  return 0;
}
