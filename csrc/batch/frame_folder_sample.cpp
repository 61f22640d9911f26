#include "batch/frame_folder_sample.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"

namespace vidload {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

SampleInfo FrameFolderSample::find_info(Worker& worker, LoadStats&) const {
  const JpegDecoder::Size size = worker.jpeg.read_size(frame_path(0), worker.cancel);
  SampleInfo info;
  info.num_frames = num_frames_;
  info.width = size.width;
  info.height = size.height;
  return info;
}

void FrameFolderSample::load(const std::vector<int64_t>& frames, SampleInfo&, Worker& worker, const SampleWriter& writer,
                             LoadStats& stats) const {
  note_software_only(worker.policy, DecoderRefusal(Fallback::codec, "JPEG pictures are decoded by the CPU"), path(), stats);
  std::vector<int64_t> distinct = frames;
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  for (const int64_t frame : distinct) {
    if (worker.cancel->is_set()) return;
    if (frame < 0 || frame >= num_frames_) {
      throw VideoError(VideoErrorKind::frame_index, path(), -1,
                       "frame_index " + std::to_string(frame) + " is out of range [0, " + std::to_string(num_frames_) + ")");
    }
    const std::string name = frame_path(frame);
    try {
      Clock::time_point start = Clock::now();
      worker.jpeg.read(name, worker.cancel);
      stats.read_seconds += seconds_since(start);
      start = Clock::now();
      const PictureView picture = worker.jpeg.decode(name);
      stats.decode_seconds += seconds_since(start);
      ++stats.num_packets_decoded;
      writer.write(frame, picture, nullptr, stats);
    } catch (const VideoError& error) {
      throw VideoError(error.kind(), error.path(), frame, error.reason(), error.av_error());
    }
  }
}

}  // namespace vidload
