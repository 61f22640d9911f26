// target: what every fuzz target is built on. A target is one function with libFuzzer's signature; replay.cpp calls the same function with
// the files of the corpus, so that tests need neither clang nor much time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace vidload::fuzz {

// A broken promise of the code under test ends the process, in any build.
inline void expect(bool is_so, const char* what) {
  if (is_so) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

// Takes numbers off the front of the input; zeros after its end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  template <typename T>
  T take() {
    T value{};
    const size_t count = size_left() < sizeof value ? size_left() : sizeof value;
    if (count > 0) std::memcpy(&value, at_, count);
    at_ += count;
    return value;
  }
  std::vector<uint8_t> take_bytes(size_t count) {
    if (count > size_left()) count = size_left();
    std::vector<uint8_t> bytes(at_, at_ + count);
    at_ += count;
    return bytes;
  }
  size_t size_left() const { return size_t(end_ - at_); }

 private:
  const uint8_t *at_, *end_;
};

}  // namespace vidload::fuzz
