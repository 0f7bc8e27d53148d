// Every row of one side drawn given the other side: normal, of precision
//
//     s_i P + Σ_j w_ij δ_j φ_j φ_jᵀ        mean: its inverse times s_i h_i + Σ_j w_ij δ_j y_ij φ_j
//
// and of variance s_i times its inverse: `Prior` of `mfjax.kernels.kernel`, φ and y as in `equations.h`.
#pragma once
#include "equations.h"

namespace mfjax::MFJAX_ISA {

template <typename T, int C> class Conditional : Equations<T, C> {
 public:
  Conditional(const Side<T>& side, const Prior<T>& prior)
      : Equations<T, C>(side, prior.of_other), prior_(prior) {}

  void draw(int64_t i, T* row) {
    this->clear();
    begin_with_prior(i);
    this->template add_ratings<false>(i);
    const T* noise = prior_.noise + i * prior_.columns;
    auto no_ridge = [](Vector<T>) { return Vector<T>{}; };
    if (!this->solved(no_ridge, noise, root(prior_.scale[i]))) this->fail();
    this->put(row);
  }

 private:
  using Base = Equations<T, C>;
  const Prior<T>& prior_;

  void begin_with_prior(int64_t i) {
    const int64_t rank = Base::rank_, columns = prior_.columns;
    const T scale = prior_.scale[i];
    const T* linear = prior_.linear + i * columns;
    for (int64_t r = 0; r < rank; r++) {
      const T* precision = prior_.precision + r * columns;
      for (int64_t c = 0; c < rank; c++) Base::gram[r * Base::size() + c] = scale * precision[c];
      Base::right[r] = scale * linear[r];
      Base::border[r] = columns > rank ? scale * precision[rank] : T(0);
    }
    if (columns == rank) return;
    Base::corner = scale * prior_.precision[rank * columns + rank];
    Base::right_of_bias = scale * linear[rank];
  }
};

template <typename T, int C>
void draw_rows(const Side<T>& side, const Prior<T>& prior, int64_t first, int64_t last, T* rows) {
  Conditional<T, C> conditional(side, prior);
  for (int64_t i = first; i < last; i++) conditional.draw(i, rows + i * side.own.columns);
}

}  // namespace mfjax::MFJAX_ISA
