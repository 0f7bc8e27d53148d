// What the kernels are given, under the names of `mfjax.objective`. No instruction set is known here.
#pragma once
#include <cstdint>
#include <utility>

namespace mfjax {

constexpr int64_t LINE = 64;  // bytes that a processor moves at once

// A factor table, `[rows, columns]`, the columns of a row side by side.
template <typename T> struct Table {
  T* data;
  int64_t rows;
  int64_t columns;

  T* row(int64_t i) const { return data + i * columns; }
};

// The same as sums over ratings read it: latent columns alone, times `free`, on whole cache lines with zeros
// after them, and the biases apart, 0 where there are none.
template <typename T> struct Latent {
  const T* data;
  const T* bias;
  int64_t columns;  // of whole lines

  const T* row(int64_t i) const { return data + i * columns; }
};

// `Columns` of one side, `[columns]` each: 1 where a column trains, its pin, its λ.
template <typename T> struct Columns {
  const T* free;
  const T* pin;
  const T* reg;
};

// The ratings of one side by its rows: those of row i are `start[i]` up to, and not, `start[i + 1]`.
template <typename T> struct Ratings {
  const int32_t* start;
  const int32_t* col;
  const T* value;
  const T* weight;
  const int32_t* fold;
};

// The scalars of `LaneTerms`; `missing` says whether missing entries cost anything.
template <typename T> struct Lane {
  int32_t fold;
  T centre;
  T alpha;
  T gram_alpha;
  T scale;
  bool missing;
};

// A lane as one side sees it: its own rows, and the other side's beside its ratings.
template <typename T> struct Side {
  Table<const T> own;
  Latent<T> other;
  int64_t other_rows;
  Columns<T> latent;  // of the own rows, on whole lines
  T bias_reg;         // λ of the own bias
  int64_t rank;       // latent columns
  bool is_item;       // whether the own rows are the items
  Ratings<T> ratings;
  const T* row_reg;     // ρ or σ, `[rows]`
  const T* background;  // b less the centre, `[items]`
  Lane<T> lane;

  bool has_bias() const { return own.columns > rank; }
  int64_t own_bias() const { return rank + is_item; }
  int64_t other_bias() const { return rank + !is_item; }
};

// What all missing entries say of a row, times α: `gram` [columns, columns] is Σ v vᵀ over all rows v
// of the other side, `target` [columns] Σ b v, and `sum` [columns] Σ v, times the row's own b.
template <typename T> struct Missing {
  const T* gram;
  const T* target;
  const T* sum;
};

// What rows are drawn given beside their ratings: `Prior` of `mfjax.kernels.kernel`.
template <typename T> struct Prior {
  const T* precision;  // P, [columns, columns]
  const T* linear;     // h, [rows, columns]
  const T* scale;      // s, [rows]
  const T* of_other;   // δ, [other rows]
  const T* noise;      // of unit variance, [rows, columns]
  int64_t columns;     // latent ones, and the own bias
};

// The ratings that a lane is measured on, and the range to which its predictions are clipped.
template <typename T> struct Scored {
  Table<const T> user, item;  // pinned
  int64_t rank;
  const int32_t* user_of;
  const int32_t* item_of;
  const T* value;
  const T* weight;
  const int32_t* fold;
  int32_t held_out;  // the lane's own fold
  T centre, low, high;
};

// Σ w e², Σ w |e| and Σ w.
struct ErrorSums {
  double squares, absolutes, weights;
};

// One rating of `sgd`, as it lies in memory: 16 bytes of float32, one cache line a visit.
template <typename T> struct Rated {
  int32_t user;
  int32_t item;
  T value;
  T weight;
};

// How a row moves, given its gradient g: the rules of optax, by name.
enum class Rule : int64_t { sgd = 0, momentum = 1, nesterov = 2, adagrad = 3, adam = 4 };

// The biases of an epoch where they stand apart from the rows; null where they are columns of them.
template <typename T> struct Biases {
  T* user;
  T* item;
  T user_reg, item_reg;
};

// The learning rate of each batch, or one for all.
template <typename T> struct Rates {
  const T* data;
  int64_t step;  // 1, or 0

  T operator[](int64_t batch) const { return data[batch * step]; }
};

// An epoch of `sgd` in batches over both tables, moved in place.
template <typename T> struct Epoch {
  Table<T> user, item;
  Biases<T> bias;
  Columns<T> user_columns, item_columns;
  const T* user_share;  // ρ_i / n_i
  const T* item_share;  // σ_j / m_j
  Lane<T> lane;
  const Rated<T>* ratings;
  const int32_t* fold;   // null where none is held out
  const int32_t* order;  // of the visits, places in `ratings`
  int64_t visits;
  int64_t batch_size;
  Rates<T> rates;
  Rule rule;
  const T* options;   // of the rule
  int64_t updates;    // before this epoch
  Table<T> first[2];  // moments of users and of items, where the rule has them
  Table<T> second[2];
  bool* is_out_of_range;  // set where a rating is of no row
};

constexpr int MOST_ABREAST = 4;  // lanes

// An epoch of `sgd` one pair at a time, of 1, 2 or 4 lanes side by side, which visit the same ratings in the
// same order: what each has of a row stands beside what the others have of it, [rows, lanes, columns] of latent
// columns on whole lines, and [rows, lanes] of the rest.
template <typename T> struct Pairs {
  int64_t lanes;
  Table<T> user, item;               // their `columns` are those of one lane
  T *user_bias, *item_bias;          // null where there are none
  const T *user_share, *item_share;  // ρ_i / n_i and σ_j / m_j
  int32_t held_out[MOST_ABREAST];
  bool is_one_fold;  // whether all hold the same out
  T centre[MOST_ABREAST], scale[MOST_ABREAST];
  T user_reg[MOST_ABREAST], item_reg[MOST_ABREAST], user_bias_reg[MOST_ABREAST],
      item_bias_reg[MOST_ABREAST];
  Rates<T> rates[MOST_ABREAST];
  const Rated<T>* ratings;
  const int32_t* fold;   // null where none is held out
  const int32_t* order;  // of the visits, places in `ratings`
  int64_t visits;
  bool* is_out_of_range;  // set where a rating is of no row
};

// The rows of one side, as XLA has them, and in the room where an epoch moves them: place p there is row
// `row_at[p]` of the table, of which it has the first `kept` columns. A bias stands apart in `bias`, every
// `abreast` numbers; null where none does.
template <typename T> struct Moved {
  Table<T> table, room;
  const int32_t* row_at;
  int64_t kept;
  T* bias;
  int64_t abreast;
  int64_t bias_column;  // of the table
  const T* row_reg;     // ρ or σ, by row
  const T* reg;         // λ, by column
  T bias_reg;
};

// Σ (x − x₀)² of what moved from x₀ to x, and the regulariser ½ Σ ρ λ x² of where it is.
struct Change {
  double squares, regularised;
};

// The kernels of one instruction set. Each works on rows, ratings or visits from `first` up to, and
// not, `last`, and what it computes of one never depends on the others, so that any number of
// threads gives the same bits.
template <typename T> struct Kernels {
  const char* name;
  double (*gradient)(const Side<T>& side, int64_t first, int64_t last, T* grad);
  double (*loss)(const Side<T>& side, int64_t first, int64_t last);
  void (*solve)(const Side<T>& side, const Missing<T>& missing, int64_t first, int64_t last,
                T* rows);
  double (*approach)(const Side<T>& side, const Missing<T>& missing, int64_t steps, int64_t first,
                     int64_t last, T* rows);
  void (*draw)(const Side<T>& side, const Prior<T>& prior, int64_t first, int64_t last, T* rows);
  void (*sums)(const Ratings<T>& ratings, int32_t held_out, const Table<const T>& other,
               int64_t first, int64_t last, T* found);
  std::pair<ErrorSums, ErrorSums> (*errors)(const Scored<T>& scored, int64_t first, int64_t last);
  void (*order)(uint32_t split_seed, uint32_t epoch, int64_t count, int32_t* places);
  int most_abreast;  // lanes
  void (*visit_pairs)(const Pairs<T>& epoch, double* losses);
  double (*visit_batches)(const Epoch<T>& epoch);
  void (*fetch)(const Moved<T>& side, int64_t first, int64_t last);
  Change (*put_back)(const Moved<T>& side, int64_t first, int64_t last);
};

}  // namespace mfjax
