// Formats of file names: rejected, or giving a name without a folder for any number.
// Input: a number, then the format.
#include "batch/frame_name.h"

#include "base/error.h"
#include "fuzz/target.h"

using namespace vidload;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const auto number = input.take<int64_t>();
  const std::vector<uint8_t> format = input.take_bytes(input.size_left());
  try {
    const std::string name = FrameName(std::string(format.begin(), format.end())).of(number);
    fuzz::expect(name.find('/') == std::string::npos && name.find('\0') == std::string::npos, "a name contains no folder");
  } catch (const Error&) {
  }
  return 0;
}
