// packet_reader: the bytes of one packet of a plan. Straight from the file where the index knows the place (a few large reads, gaps
// included, instead of many small ones), else through the demuxer.
#pragma once

#include <memory>
#include <vector>

#include "index/packet_index.h"
#include "plan/decode_plan.h"
#include "source/container.h"

namespace vidload {

class PacketReader {
 public:
  // All must outlive the reader. After an exception it is as it was when made.
  PacketReader(const ByteSource& source, const PacketIndex& index, const Cancel* cancel = nullptr);
  ~PacketReader();

  // Has the bytes of all spans of a plan come early, where reading waits for a network.
  void prefetch(const DecodePlan& plan) const;
  // Announces the packets that will be read next, in rising order.
  void begin(const std::vector<int32_t>& packets);
  // Fills `out` with packets[position]; it borrows the reader's memory until the next call. Throws VideoError when the file no longer
  // holds what the index says, MachineError when it cannot be read.
  void read(size_t position, AVPacket* out);

  int64_t bytes_read() const { return bytes_read_; }
  const ByteSource& source() const { return source_; }
  const Cancel* cancel() const { return cancel_; }
  const std::string& name() const { return source_.name(); }
  const PacketIndex& index() const { return index_; }

 private:
  void forget();
  void read_bytes(size_t position, AVPacket* out);
  void read_demuxed(int32_t packet, AVPacket* out);
  bool seek_demuxer(int32_t packet);
  [[noreturn]] void throw_changed() const;

  const ByteSource& source_;
  const PacketIndex& index_;
  const Cancel* cancel_;
  const std::vector<int32_t>* packets_ = nullptr;
  int64_t bytes_read_ = 0;

  // Bytes [window_offset_, window_offset_ + window_size_) of the file.
  std::vector<uint8_t> window_;
  int64_t window_offset_ = 0, window_size_ = 0;

  std::unique_ptr<Container> container_;
  UniqueAVPacket demuxed_;
  int32_t next_demuxed_ = 0;  // the packet the demuxer gives next
  bool has_pending_ = false;  // demuxed_ already holds it, after a seek
};

}  // namespace vidload
