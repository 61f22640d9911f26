// aligned_vector: a std::vector whose first element begins a cache line, so that vector loads cross none.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace vidload {

template <typename T>
struct AlignedAllocator {
  using value_type = T;
  static constexpr std::align_val_t kAlignment{64};
  AlignedAllocator() = default;
  template <typename Other>
  AlignedAllocator(const AlignedAllocator<Other>&) {}
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kAlignment)); }
  void deallocate(T* memory, size_t) { ::operator delete(memory, kAlignment); }
  template <typename Other>
  bool operator==(const AlignedAllocator<Other>&) const {
    return true;
  }
  template <typename Other>
  bool operator!=(const AlignedAllocator<Other>&) const {
    return false;
  }
};

template <typename T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

}  // namespace vidload
