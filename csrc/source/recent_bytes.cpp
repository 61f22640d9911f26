#include "source/recent_bytes.h"

#include <algorithm>
#include <cstring>

namespace vidload {

int64_t RecentBytes::read(int64_t offset, uint8_t* out, int64_t size) const {
  constexpr size_t kKept = 1 << 20;  // before what is being read: demuxers step back by less
  const int64_t end = begin_ + int64_t(window_.size());
  if (offset < begin_ || offset > end) window_.clear(), begin_ = offset;
  const int64_t held = begin_ + int64_t(window_.size()) - offset;
  if (held < size) {
    if (window_.size() > 2 * kKept) {
      const size_t gone = std::min(window_.size() - kKept, size_t(offset - begin_));
      window_.erase(window_.begin(), window_.begin() + std::ptrdiff_t(gone));
      begin_ += int64_t(gone);
    }
    const size_t known = window_.size();
    window_.resize(known + size_t(size - held));
    int64_t count = 0;
    try {
      count = source_.read(begin_ + int64_t(known), window_.data() + known, size - held);
    } catch (...) {
      window_.resize(known);
      throw;
    }
    window_.resize(known + size_t(count));
    if (pass_ && count > 0) pass_(begin_ + int64_t(known), window_.data() + known, count);
  }
  const int64_t count = std::clamp<int64_t>(begin_ + int64_t(window_.size()) - offset, 0, size);
  if (count > 0) std::memcpy(out, window_.data() + (offset - begin_), size_t(count));
  return count;
}

}  // namespace vidload
