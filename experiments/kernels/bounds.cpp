// What one core can do: multiply-adds a second, and rows gathered from tables of some sizes.
//
//     g++ -O3 -march=native bounds.cpp -o bounds && ./bounds
//
// prints a line a measurement, each the best of some runs: its name, rows and columns of the table, and the
// multiply-adds, or rows, a second.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <new>
#include <random>
#include <vector>

#if defined(__AVX512F__)
constexpr int BYTES = 64;
#else
constexpr int BYTES = 32;
#endif
typedef float Vector __attribute__((vector_size(BYTES)));
constexpr int LANES = BYTES / sizeof(float);
constexpr int RUNS = 30;

template <typename F> double best_seconds(const F& function) {
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run < RUNS; run++) {
    auto began = std::chrono::steady_clock::now();
    function();
    std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    if (took.count() < best) best = took.count();
  }
  return best;
}

// The compiler believes that `x` is read and written.
void use(Vector& x) { asm volatile("" : "+x"(x)); }

void multiply_adds() {
  constexpr int CHAINS = 10;  // registers, enough to hide the latency of one
  constexpr int64_t ROUNDS = 400'000;
  double seconds = best_seconds([] {
    Vector sum[CHAINS] = {}, factor = Vector{} + 0.5f, term = Vector{} + 1.0f;
    for (Vector& x : sum) use(x);
    for (int64_t round = 0; round < ROUNDS; round++)
      for (Vector& x : sum) x = x * factor + term;
    for (Vector& x : sum) use(x);
  });
  std::printf("fma 0 0 %.6g\n", double(ROUNDS) * CHAINS * LANES / seconds);
}

// Sums random rows: each is read whole, from wherever its table lies.
template <int COLUMNS> void gather(int64_t rows) {
  constexpr int64_t COUNT = 200'000;
  std::mt19937 random(0);
  std::uniform_int_distribution<int32_t> any(0, int32_t(rows - 1));
  std::vector<int32_t> row(COUNT);
  for (int32_t& r : row) r = any(random);
  const std::align_val_t line{64};
  auto* table = new (line) float[size_t(rows * COLUMNS)];
  for (int64_t i = 0; i < rows * COLUMNS; i++) table[i] = 1;
  double seconds = best_seconds([&] {
    Vector sum[COLUMNS / LANES] = {};
    for (int32_t r : row)
      for (int v = 0; v < COLUMNS / LANES; v++) {
        Vector x;
        std::memcpy(&x, table + int64_t(r) * COLUMNS + v * LANES, sizeof x);
        sum[v] += x;
      }
    for (Vector& x : sum) use(x);
  });
  operator delete[](table, line);
  std::printf("gather %lld %d %.6g\n", static_cast<long long>(rows), COLUMNS, COUNT / seconds);
}

int main(int count, char** words) {
  multiply_adds();
  for (int i = 1; i < count; i++) {
    const int64_t rows = std::atoll(words[i]);
    gather<16>(rows);
    gather<64>(rows);
    gather<128>(rows);
  }
}
