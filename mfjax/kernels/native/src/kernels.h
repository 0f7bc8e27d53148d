// The tables of kernels, one an instruction set.
#pragma once
#include "operands.h"

namespace mfjax {

namespace base {
template <typename T> const Kernels<T>& kernels();
}
namespace avx2 {
template <typename T> const Kernels<T>& kernels();
}
namespace avx512 {
template <typename T> const Kernels<T>& kernels();
}

}  // namespace mfjax
