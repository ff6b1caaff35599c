// Memory that begins at a cache line: vectors in it do not straddle two, and threads that write
// neighbouring vectors do not share one.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace shoal {

constexpr size_t kCacheLine = 64;

template <class T>
struct LineAllocator {
  using value_type = T;

  LineAllocator() = default;
  template <class U>
  LineAllocator(const LineAllocator<U>&) {}

  T* allocate(size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(kCacheLine)));
  }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(kCacheLine)); }

  template <class U>
  bool operator==(const LineAllocator<U>&) const {
    return true;
  }
};

template <class T>
using Buffer = std::vector<T, LineAllocator<T>>;

// Make room for `count`; what is there already may be lost.
template <class T>
inline void reserve(Buffer<T>& buffer, size_t count) {
  if (buffer.size() < count) buffer.resize(count);
}

}  // namespace shoal
