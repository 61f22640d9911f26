#include "source/container.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" {
#include <libavutil/avstring.h>
}

#include "base/error.h"
#include "base/limits.h"
#include "source/edit_list.h"

namespace vidload {
namespace {

// FFmpeg's names of the formats that may be opened: each holds all of its own bytes. See Note [Plain containers only].
constexpr const char* kPlainFormats =
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,live_flv,asf,ogg,nut,mxf,gxf,rm,ivf,obu,av1,wtv,nsv,dv,swf,yuv4mpegpipe,kux,pva,ty,ifv,"
    "h264,hevc,vvc,evc,h261,h263,m4v,mpegvideo,mjpeg,mpjpeg,smjpeg,mjpeg_2000,vc1,vc1test,cavsvideo,dirac,dnxhd,ipu,ingenient,"
    "gif,apng,flic,smk,bink,roq,cdxl,4xm,ea,idcin,film_cpk,vmd,rl2,mvi,avs,nuv,pmp,amv,vivo,wsvqa,wc3movie,thp,moflex,xmv,yop,rpl,siff,"
    "mtv,paf,lmlm4,lvf,mxg,jv,hnm,gdv,dxa,c93,bfi,bmv,anm,vividas,ipmovie,dsicin,tiertexseq,smush,mm,nc,mgsts,r3d,"
    "jpeg_pipe,png_pipe,bmp_pipe,tiff_pipe,webp_pipe";  // one picture, from the bytes that are there

#if LIBAVFORMAT_VERSION_MAJOR >= 59
using InputFormat = const AVInputFormat;
#else
using InputFormat = AVInputFormat;
#endif

int refuse_to_open(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) { return AVERROR(EPERM); }

// mov, Matroska and FLV state codec, size and pts for themselves. The others (AVI, MPEG-TS, raw streams) need libavformat to look
// into the packets first.
bool states_its_streams(const AVFormatContext* format) {
  const char* name = format->iformat->name;
  return std::strstr(name, "mp4") || std::strstr(name, "matroska") || !std::strcmp(name, "flv");
}

}  // namespace

std::string av_error_text(int code) {
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(code, text, sizeof text);
  return text;
}

void throw_if_out_of_memory(int code) {
  if (code != AVERROR(ENOMEM)) return;
  constexpr size_t kRoom = size_t{64} << 20;
  volatile void* room = std::malloc(kRoom);
  if (!room) throw std::bad_alloc();
  std::free(const_cast<void*>(room));
}

int Container::read_bytes(void* opaque, uint8_t* buffer, int size) {
  auto* position = static_cast<Position*>(opaque);
  try {
    if (position->failure) return AVERROR(EIO);  // what is read after an error would be believed to follow what was read before
    if (position->cancel && position->cancel->is_set()) {
      throw VideoError(VideoErrorKind::cancelled, position->source->name(), -1, "cancelled");
    }
    const int64_t count = position->source->read(position->offset, buffer, size);
    position->offset += count;
    return count == 0 ? AVERROR_EOF : int(count);
  } catch (...) {
    position->failure = std::current_exception();
    return AVERROR(EIO);
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

void Container::rethrow_failure() {
  if (position_.failure) std::rethrow_exception(position_.failure);
}

Container::Container(const ByteSource& source, int stream, const Cancel* cancel, int read_size) : position_{&source, cancel, 0, nullptr} {
  try {
    open(stream, read_size);
  } catch (...) {
    close();
    throw;
  }
}

void Container::open(int stream, int read_size) {
  const std::string& name = position_.source->name();
  auto* buffer = static_cast<unsigned char*>(av_malloc(size_t(read_size)));
  if (!buffer) throw std::bad_alloc();
  io_ = avio_alloc_context(buffer, read_size, 0, &position_, read_bytes, nullptr, seek_bytes);
  if (!io_) av_free(buffer);
  format_ = avformat_alloc_context();
  if (!io_ || !format_) throw std::bad_alloc();
  format_->pb = io_;
  format_->flags |= AVFMT_FLAG_CUSTOM_IO;  // io_ is ours to close, also where opening fails before libavformat looks
  format_->io_open = refuse_to_open;
  format_->protocol_whitelist = av_strdup("");
  if (!format_->protocol_whitelist) throw std::bad_alloc();
  // Without a name: a format is told by its bytes, not by how the file is called.
  InputFormat* input = nullptr;
  int code = av_probe_input_buffer2(io_, &input, "", nullptr, 0, 0);
  rethrow_failure();
  if (code >= 0 && av_match_list(input->name, kPlainFormats, ',') <= 0) {
    throw VideoError(VideoErrorKind::unsupported, name, -1,
                     std::string("is of the format '") + input->name +
                         "', which is not a plain video container (audio alone, and "
                         "playlists and other formats that point to further files are not opened)");
  }
  const VideoLimits limits = video_limits();
  if (code >= 0 && std::strstr(input->name, "mp4")) {
    check_limit(count_edits(*position_.source), limits.edits, "entries of edit lists", "edits", name);
  }
  format_->max_streams = int(std::min<int64_t>(limits.streams + 1, INT_MAX));
  if (code >= 0) code = avformat_open_input(&format_, nullptr, input, nullptr);  // frees format_ when it fails
  rethrow_failure();
  throw_if_out_of_memory(code);
  if (code < 0) {
    throw VideoError(VideoErrorKind::unreadable, name, -1, "not a video container that FFmpeg can read (" + av_error_text(code) + ")",
                     code);
  }
  bool complete = states_its_streams(format_) && format_->nb_streams > 0 && !(format_->ctx_flags & AVFMTCTX_NOHEADER);
  for (unsigned i = 0; complete && i < format_->nb_streams; ++i) {
    const AVCodecParameters* parameters = format_->streams[i]->codecpar;
    if (parameters->codec_type == AVMEDIA_TYPE_VIDEO) complete = parameters->width > 0;
  }
  const auto is_video = [&](int number) {
    return number >= 0 && number < int(format_->nb_streams) && format_->streams[number]->codecpar->codec_type == AVMEDIA_TYPE_VIDEO &&
           !(format_->streams[number]->disposition & AV_DISPOSITION_ATTACHED_PIC);
  };
  // To choose among several video streams libavformat wants to have seen some packets of each.
  int num_videos = 0;
  for (int i = 0; i < int(format_->nb_streams); ++i) num_videos += is_video(i);
  if (!complete || num_videos > 1) {
    is_parsed_ = !states_its_streams(format_);
    code = avformat_find_stream_info(format_, nullptr);
    rethrow_failure();
    throw_if_out_of_memory(code);
    if (code < 0) {
      throw VideoError(VideoErrorKind::unreadable, name, -1, "cannot find out which streams it has (" + av_error_text(code) + ")", code);
    }
  }
  check_limit(format_->nb_streams, limits.streams, "streams", "streams", name);
  best_stream_ = av_find_best_stream(format_, AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
  if (!is_video(best_stream_)) throw VideoError(VideoErrorKind::unsupported, name, -1, "has no video stream");
  const int chosen = stream < 0 ? best_stream_ : stream;
  if (!is_video(chosen)) {
    std::string numbers;
    for (int i = 0; i < int(format_->nb_streams); ++i) {
      if (is_video(i)) numbers += (numbers.empty() ? "" : ", ") + std::to_string(i);
    }
    throw VideoError(VideoErrorKind::unsupported, name, -1,
                     "its stream " + std::to_string(stream) + " is not a video stream; its video streams are " + numbers);
  }
  stream_ = format_->streams[chosen];
  for (unsigned i = 0; i < format_->nb_streams; ++i) {
    if (int(i) != chosen) format_->streams[i]->discard = AVDISCARD_ALL;
  }
}

Container::~Container() { close(); }

void Container::close() {
  avformat_close_input(&format_);
  if (io_) av_freep(static_cast<void*>(&io_->buffer));
  avio_context_free(&io_);
}

bool Container::read(AVPacket* packet) {
  while (true) {
    av_packet_unref(packet);
    const int code = av_read_frame(format_, packet);
    // Even where a packet came out: a demuxer that met an error may go on with what it has, as if the file ended there.
    rethrow_failure();
    if (code == AVERROR(EAGAIN)) continue;
    throw_if_out_of_memory(code);
    if (code < 0) {
      end_error_ = code == AVERROR_EOF ? 0 : code;
      return false;
    }
    if (packet->stream_index == stream_->index && packet->size > 0) return true;
  }
}

bool Container::seek_to_byte(int64_t position) {
  const bool is_there = av_seek_frame(format_, stream_->index, position, AVSEEK_FLAG_BYTE) >= 0;
  rethrow_failure();
  return is_there;
}

std::vector<StreamSummary> Container::streams() const {
  std::vector<StreamSummary> summaries;
  for (int i = 0; i < int(format_->nb_streams); ++i) {
    const AVCodecParameters* parameters = format_->streams[i]->codecpar;
    const char* kind = av_get_media_type_string(parameters->codec_type);
    summaries.push_back(
        {i, kind ? kind : "unknown", avcodec_get_name(parameters->codec_id), parameters->width, parameters->height, i == best_stream_});
  }
  return summaries;
}

// Note [Plain containers only]
// Left to itself, libavformat takes a text file for an HLS or DASH playlist, a concat script, an SDP session or a pattern of image names,
// whatever the file is called, and opens what it names: other files of this machine, or the network, where a read may wait for ever. An
// mp4 may refer to another file for its data. So formats are allowed by name, io_open refuses, and no protocol is allowed; the bytes of
// the ByteSource are all there is.

// Note [Out of memory, or a file that asks for too much]
// libavformat and libavcodec say ENOMEM both when memory is short and when a damaged header asks for more than they will ever allocate.
// The first concerns every file and must end the epoch, the second this file alone. So it is tried whether a moderate piece of memory
// can be had (throw_if_out_of_memory).

}  // namespace vidload
