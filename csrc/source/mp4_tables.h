// mp4_tables: what the sample tables of an mp4 or mov file say beside what libavformat hands out of them, and the moov box in memory, so
// that both parse it from one read.
#pragma once

#include <optional>
#include <vector>

#include "source/byte_source.h"

namespace vidload {

// One trak.
struct Mp4Track {
  uint32_t id = 0;
  bool is_video = false;
  uint32_t sample_entry = 0;      // the type of the first description, such as "avc1"
  bool has_picture_size = false;  // it says how large pictures are
  // One sample description, its data in this file, and composition offsets, where there are any, that are not negative and one a sample.
  bool is_plain = false;
  int64_t num_samples = 0;
  std::vector<int32_t> composition_offset;  // pts - dts of each sample in ticks; empty: always 0
};

struct Mp4Tables {
  ByteRange moov;
  std::vector<uint8_t> bytes;  // of the box, its header among them
  bool is_fragmented = false;  // samples may be listed elsewhere too
  std::vector<Mp4Track> tracks;
};

// Empty where the bytes are no such file, or its boxes make no sense. Throws as the source's read().
std::optional<Mp4Tables> read_mp4_tables(const ByteSource& source);

// A source of which one range is in memory.
class PartlyHeld final : public SourceOver {
 public:
  // Both must outlive it.
  PartlyHeld(const ByteSource& source, ByteRange range, const std::vector<uint8_t>& bytes)
      : SourceOver(source), range_(range), bytes_(bytes) {}
  int64_t read(int64_t offset, uint8_t* out, int64_t size) const override;

 private:
  const ByteRange range_;
  const std::vector<uint8_t>& bytes_;
};

}  // namespace vidload
