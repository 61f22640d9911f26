// frame_name: the file names of extracted frames, "img_%05d.jpg" and a number. The format is read here, never handed to printf.
#pragma once

#include <cstdint>
#include <string>

namespace vidload {

class FrameName {
 public:
  // One %d, %5d or %05d (%i and %u mean the same), "%%" for a percent sign, no folder. Throws Error for anything else.
  explicit FrameName(const std::string& format);

  std::string of(int64_t number) const;

 private:
  std::string before_, after_;
  size_t width_ = 0;
  char fill_ = ' ';
};

}  // namespace vidload
