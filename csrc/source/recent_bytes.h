// recent_bytes: a ByteSource over another that keeps what was read last, so that who reads the same bytes again (a demuxer, then those
// who look for a packet's place) costs no second read. For one thread.
#pragma once

#include <functional>
#include <vector>

#include "source/byte_source.h"

namespace vidload {

class RecentBytes final : public SourceOver {
 public:
  // `source` must outlive it. `pass`, if any, is called with all that is read of it, as it comes.
  using Pass = std::function<void(int64_t offset, const uint8_t* data, int64_t size)>;
  explicit RecentBytes(const ByteSource& source, Pass pass = nullptr) : SourceOver(source), pass_(std::move(pass)) {}

  int64_t read(int64_t offset, uint8_t* out, int64_t size) const override;

 private:
  const Pass pass_;
  mutable std::vector<uint8_t> window_;  // the bytes from begin_ on
  mutable int64_t begin_ = 0;
};

}  // namespace vidload
