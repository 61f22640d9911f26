#include "batch/video_sample.h"

#include <algorithm>

#include "base/error.h"
#include "decode/span_check.h"
#include "plan/decode_plan.h"
#include "source/remote_source.h"

namespace vidload {

SampleInfo VideoSample::find_info(Worker& worker, LoadStats& stats) const {
  IndexOrigin origin;
  SampleInfo info;
  // A server is asked for an object's state once for each sample, when it has been read.
  if (is_remote(id_.file) && !needs_whole_index_) info.index = IndexCache::instance().get_unasked(id_, stream_, stored_);
  info.is_unasked = info.index != nullptr;
  if (!info.index) info.index = IndexCache::instance().get(id_, stream_, stored_, needs_whole_index_, worker.cancel, &origin);
  stats.num_files_scanned += origin.is_scanned;
  stats.num_entries_refused += origin.is_stored_refused;
  const StreamInfo& stream = info.index->stream;
  info.num_frames = info.index->num_frames();
  info.width = stream.width();
  info.height = stream.height();
  info.average_fps = stream.average_fps.value();
  return info;
}

void VideoSample::load(const std::vector<int64_t>& frames, SampleInfo& info, Worker& worker, const SampleWriter& writer,
                       LoadStats& stats) const {
  while (true) {
    const std::shared_ptr<const PacketIndex> index = info.index;
    try {
      return decode(*index, info.is_unasked, frames, worker, writer, stats);
    } catch (const VideoError& error) {
      if (error.kind() != VideoErrorKind::index_mismatch) throw;
      // The tables, the headers or the container's times were wrong about the frames. A scan of the whole file, and at last a decode of it,
      // lists them; the sample's frames are the same numbers of that list if it has as many of the same size, else frames and boxes must be
      // drawn again, which is the caller's to do. So must those of an object that was replaced since it was indexed.
      info.index = IndexCache::instance().get_better(id_, stream_, *index, worker.cancel);
      const bool is_of_another = !(info.index->stamp == index->stamp);
      stats.num_files_scanned += is_of_another;
      stats.num_files_decoded += !is_of_another && !index->is_provisional;
      const StreamInfo &now = info.index->stream, &before = index->stream;
      const bool is_of_same_shape =
          info.index->num_frames() == index->num_frames() && now.width() == before.width() && now.height() == before.height();
      if (is_of_another || !is_of_same_shape) throw;
    }
  }
}

void VideoSample::decode(const PacketIndex& index, bool is_unasked, const std::vector<int64_t>& frames, Worker& worker,
                         const SampleWriter& writer, LoadStats& stats) const {
  const auto bad = std::find_if(frames.begin(), frames.end(), [&](int64_t frame) { return frame < 0 || frame >= index.num_frames(); });
  if (bad != frames.end()) {
    throw VideoError(VideoErrorKind::frame_index, path(), -1,
                     "frame_index " + std::to_string(*bad) + " is out of range [0, " + std::to_string(index.num_frames()) + ")");
  }
  DecodePlan plan = decode_plan(index, frames.data(), int64_t(frames.size()));
  const std::unique_ptr<ByteSource> source = open_source(id_, worker.cancel, &index.stamp);
  if (!(source->stamp() == index.stamp)) {
    throw VideoError(VideoErrorKind::unreadable, path(), -1, "the file changed after it was indexed; load it again when it is complete");
  }
  PacketReader reader(*source, index, worker.cancel);
  reader.prefetch(plan);
  const auto check_unchanged = [&] {
    if (!is_unasked) return source->check_unchanged();
    if (stamp_of(id_, worker.cancel) == index.stamp) return;
    throw VideoError(VideoErrorKind::index_mismatch, path(), -1, "the object is not the one that was indexed");
  };
  try {
    decode_from(reader, plan, worker, writer, stats);
  } catch (const VideoError& error) {
    if (error.kind() != VideoErrorKind::cancelled) check_unchanged();  // else it is another file's bytes that are at fault
    throw;
  }
  check_unchanged();
}

void VideoSample::decode_from(PacketReader& reader, DecodePlan& plan, Worker& worker, const SampleWriter& writer, LoadStats& stats) const {
  check_plan(plan, reader);
  stats.num_packets_decoded += plan.num_decoded;
  stats.num_packets_dropped += plan.num_dropped;
  stats.num_packets_skipped += plan.num_skipped;
  const PlacedSink sink = [&](const WantedFrame& wanted, const DecodedPicture& picture, DeviceTransform* transform) {
    writer.write(wanted.frame, picture.view(), transform, stats);
  };
  decode_plan_by_choice(worker.policy, worker.decoders, reader.index(), plan, reader, writer.order(), sink, worker.cancel, stats);
}

}  // namespace vidload
