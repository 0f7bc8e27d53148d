// The order of visits: a permutation of n places as a pure function of (split seed, epoch, n), the same
// integers as `mfjax.kernels.order`, which has the definition and its source.
#pragma once
#include <algorithm>
#include <cstdint>

namespace mfjax::MFJAX_ISA {

constexpr int ROUNDS = 6;
constexpr uint32_t AT_ONCE = 256;  // places, in loops that the compiler turns into vectors
constexpr uint32_t GROUP = 16;     // of them

static inline uint32_t mix(uint32_t x, uint32_t key) {
  x += key;
  x *= 0x9E3779B1u;
  x ^= x >> 15;
  x *= 0x85EBCA77u;
  x ^= x >> 13;
  x *= 0xC2B2AE3Du;
  return x ^ x >> 16;
}

// A Feistel network over pairs (left, right) below (height, width), walked on beyond n.
class Permutation {
 public:
  Permutation(uint32_t split_seed, uint32_t epoch, int64_t n) : n_(uint32_t(n)), height_(0) {
    while (uint64_t(height_) * height_ < n_) height_++;
    width_ = n_ ? uint32_t((n_ + height_ - 1) / height_) : 1;
    uint32_t seed = mix(mix(0x5F, split_seed), epoch);
    for (uint32_t round = 0; round < ROUNDS; round++) keys_[round] = mix(seed, round);
  }

  // The places of all visits, AT_ONCE of them together.
  void write(int32_t* places) const {
    uint32_t left[AT_ONCE], right[AT_ONCE];
    uint32_t row = 0, column = 0;
    for (uint32_t first = 0; first < n_; first += AT_ONCE) {
      for (uint32_t filled = 0; filled < AT_ONCE;) {
        const uint32_t count = std::min(width_ - column, AT_ONCE - filled);
        for (uint32_t i = 0; i < count; i++) {
          left[filled + i] = row;
          right[filled + i] = column + i;
        }
        filled += count;
        column += count;
        if (column == width_) column = 0, row++;
      }
      move(left, right, AT_ONCE);
      const uint32_t count = std::min(n_ - first, AT_ONCE);
      std::fill(left + count, left + AT_ONCE, 0);
      for (uint32_t i = 0; i < AT_ONCE; i += GROUP)
        if (most_of(left + i) >= n_) walk(left + i);
      std::copy(left, left + count, places + first);
    }
  }

 private:
  uint32_t n_, height_, width_, keys_[ROUNDS];

  static uint32_t add(uint32_t x, uint32_t other, uint32_t key, uint32_t size) {
    x += (mix(other, key) >> 16) * size >> 16;
    return x < size ? x : x - size;
  }

  // Pairs to their images, the numbers of which are left in `left`.
  void move(uint32_t* left, uint32_t* right, uint32_t count) const {
    const Permutation at = *this;
    for (int round = 0; round < ROUNDS; round += 2) {
      const uint32_t even = at.keys_[round], odd = at.keys_[round + 1];
      for (uint32_t i = 0; i < count; i++) left[i] = add(left[i], right[i], even, at.height_);
      for (uint32_t i = 0; i < count; i++) right[i] = add(right[i], left[i], odd, at.width_);
    }
    for (uint32_t i = 0; i < count; i++) left[i] = left[i] * at.width_ + right[i];
  }

  // Of a group, as a vector: `std::max_element` goes from one to the next.
  static uint32_t most_of(const uint32_t* images) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < GROUP; i++) most = std::max(most, images[i]);
    return most;
  }

  // A group, in which few are not below n: most groups have none.
  void walk(uint32_t* images) const {
    for (uint32_t i = 0; i < GROUP; i++)
      while (images[i] >= n_) images[i] = walked(images[i]);
  }

  uint32_t walked(uint32_t from) const {
    uint32_t left = from / width_, right = from % width_;
    move(&left, &right, 1);
    return left;
  }
};

}  // namespace mfjax::MFJAX_ISA
