// Which instruction set this machine has.
#include <cstdlib>

#include "handling.h"

namespace mfjax {

int best_isa() {
  int best = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = 1;
  if (best && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    best = 2;
#endif
  const char* asked = std::getenv("MFJAX_ISA");
  const std::string names[] = {"base", "avx2", "avx512"};
  for (int isa = 0; asked && isa < best; isa++)
    if (names[isa] == asked) return isa;
  return best;
}

}  // namespace mfjax

extern "C" MFJAX_EXPORT const char* mfjax_isa() { return mfjax::kernels<float>().name; }
