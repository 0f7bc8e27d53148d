// The order of visits: a permutation of n places as a pure function of (split seed, epoch, n), the same
// integers as `mfjax.kernels.order`, which has the definition and its source.
#pragma once
#include <cstdint>

namespace mfjax::MFJAX_ISA {

constexpr int ROUNDS = 6;
constexpr int AT_ONCE = 256;  // places, in loops that the compiler turns into vectors

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
  Permutation(uint32_t split_seed, uint32_t epoch, int64_t n) : n_(uint64_t(n)), height_(0) {
    while (uint64_t(height_) * height_ < n_) height_++;
    width_ = n_ ? uint32_t((n_ + height_ - 1) / height_) : 1;
    uint32_t seed = mix(mix(0x5F, split_seed), epoch);
    for (uint32_t round = 0; round < ROUNDS; round++) keys_[round] = mix(seed, round);
  }

  // The places of all visits.
  void write(int32_t* places) const {
    uint32_t left[AT_ONCE], right[AT_ONCE];
    uint32_t row = 0, column = 0;
    for (uint64_t first = 0; first < n_; first += AT_ONCE) {
      int count = n_ - first < AT_ONCE ? int(n_ - first) : AT_ONCE;
      for (int i = 0; i < AT_ONCE; i++) {
        left[i] = row;
        right[i] = column;
        if (++column == width_) column = 0, row++;
      }
      move(left, right);
      for (int i = 0; i < count; i++) {
        uint64_t place = uint64_t(left[i]) * width_ + right[i];
        while (place >= n_) place = walked(place);
        places[first + i] = int32_t(place);
      }
    }
  }

 private:
  uint64_t n_;
  uint32_t height_, width_, keys_[ROUNDS];

  static uint32_t add(uint32_t x, uint32_t other, uint32_t key, uint32_t size) {
    x += (mix(other, key) >> 16) * size >> 16;
    return x < size ? x : x - size;
  }

  void move(uint32_t* left, uint32_t* right) const {
    const uint32_t height = height_, width = width_;
    for (int round = 0; round < ROUNDS; round += 2) {
      const uint32_t even = keys_[round], odd = keys_[round + 1];
      for (int i = 0; i < AT_ONCE; i++) {
        left[i] = add(left[i], right[i], even, height);
        right[i] = add(right[i], left[i], odd, width);
      }
    }
  }

  uint64_t walked(uint64_t place) const {
    uint32_t left = uint32_t(place / width_), right = uint32_t(place % width_);
    for (int round = 0; round < ROUNDS; round += 2) {
      left = add(left, right, keys_[round], height_);
      right = add(right, left, keys_[round + 1], width_);
    }
    return uint64_t(left) * width_ + right;
  }
};

}  // namespace mfjax::MFJAX_ISA
