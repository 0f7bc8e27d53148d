// Room for temporaries, given back at the end of a scope.
#pragma once
#include <cstddef>

#include "vector.h"

namespace mfjax::MFJAX_ISA {

// `count` numbers, which nobody has set.
template <typename X> class Memory {
 public:
  explicit Memory(int64_t count)
      : begin_(static_cast<X*>(__builtin_malloc(size_t(count) * sizeof(X) + 1))) {}
  ~Memory() { __builtin_free(begin_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  X& operator[](int64_t i) { return begin_[i]; }

 private:
  X* begin_;
};

// Room for some rows of registers, on the stack where they are narrow.
template <typename T, int COUNT> class Room {
 public:
  explicit Room(int64_t vectors) : vectors_(vectors), far_(nullptr) {
    if (COUNT * vectors > NEAR) {
      size_t bytes = size_t(COUNT * vectors) * sizeof(Vector<T>);
      far_ = static_cast<Vector<T>*>(__builtin_malloc(bytes + BYTES));
      begin_ = reinterpret_cast<Vector<T>*>((reinterpret_cast<uintptr_t>(far_) + BYTES - 1) /
                                            BYTES * BYTES);
    } else {
      begin_ = near_;
    }
  }
  ~Room() { __builtin_free(far_); }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

  Vector<T>* operator[](int nth) { return begin_ + nth * vectors_; }

 private:
  static constexpr int NEAR = 64;
  int64_t vectors_;
  Vector<T>* far_;
  Vector<T>* begin_;
  Vector<T> near_[NEAR] = {};
};

}  // namespace mfjax::MFJAX_ISA
