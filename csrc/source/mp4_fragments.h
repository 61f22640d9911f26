// mp4_fragments: a fragmented mp4 (ISO 14496-12, 8.8) without its media. All boxes but mdat and free are in memory, and those read as
// zeros: a demuxer lists every packet, edit lists and all, and no media is read.
#pragma once

#include <memory>
#include <vector>

#include "base/cancel.h"
#include "source/byte_source.h"

namespace vidload {

class FragmentHeaders final : public SourceOver {
 public:
  // Null where the boxes do not fill the file (it is cut short), are too large, of kinds that it does not know, or claim to hold more than
  // they have room for, so that who reads them would go on into the media. `source` must outlive it. Throws as the source's read(),
  // VideoError (kind cancelled).
  static std::unique_ptr<FragmentHeaders> read_all(const ByteSource& source, const Cancel* cancel);

  int64_t read(int64_t offset, uint8_t* out, int64_t size) const override;
  // What each byte of media reads as, in place of 0: who reads on into it comes to see something else.
  void fill_with(uint8_t fill) { fill_ = fill; }
  // Whether all of it lies in one mdat (or free).
  bool is_media(ByteRange range) const;

 private:
  struct Media {
    ByteRange range;
    int64_t skipped = 0;  // bytes of media up to its end
  };
  explicit FragmentHeaders(const ByteSource& source) : SourceOver(source) {}
  bool fetch(int64_t until);
  bool walk(const Cancel* cancel);
  bool points_to_mfra() const;
  // The first that ends behind `at`.
  std::vector<Media>::const_iterator media_at(int64_t at) const;

  std::vector<uint8_t> bytes_;  // all that is not media, one box after the other
  int64_t fetched_ = 0;         // up to here
  std::vector<Media> media_;    // in rising order
  uint8_t tail_[4] = {};        // of the file: by its last bytes a demuxer looks for an mfra
  uint8_t fill_ = 0;
};

}  // namespace vidload
