#include "batch/frame_name.h"

#include <algorithm>

#include "base/error.h"

namespace vidload {

FrameName::FrameName(const std::string& format) {
  constexpr size_t kMaxLength = 255;  // of a file name, NAME_MAX
  const auto refuse = [&] {
    std::string shown = format;
    std::replace(shown.begin(), shown.end(), '\0', '?');
    throw Error("name_format '" + shown + "' must hold one integer, printf-style, and no folder, such as 'img_%05d.jpg'");
  };
  int num_integers = 0;
  for (size_t at = 0; at < format.size(); ++at) {
    std::string& text = num_integers == 0 ? before_ : after_;
    if (format[at] == '/' || format[at] == '\0') refuse();
    if (format[at] != '%') {
      text += format[at];
      continue;
    }
    if (++at < format.size() && format[at] == '%') {
      text += '%';
      continue;
    }
    if (at < format.size() && format[at] == '0') fill_ = '0', ++at;
    for (; at < format.size() && format[at] >= '0' && format[at] <= '9' && width_ <= kMaxLength; ++at) {
      width_ = width_ * 10 + size_t(format[at] - '0');
    }
    if (at >= format.size() || (format[at] != 'd' && format[at] != 'i' && format[at] != 'u')) refuse();
    ++num_integers;
  }
  if (num_integers != 1 || of(0).size() > kMaxLength) refuse();
}

std::string FrameName::of(int64_t number) const {
  std::string digits = std::to_string(number);
  if (digits.size() < width_) digits.insert(number < 0 && fill_ == '0' ? 1 : 0, width_ - digits.size(), fill_);
  return before_ + digits + after_;
}

}  // namespace vidload
