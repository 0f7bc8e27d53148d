// An epoch of stochastic gradient descent one pair at a time, of several lanes, as XLA calls it.
#include <algorithm>

#include "abreast.h"
#include "visited.h"

namespace mfjax {
namespace {

constexpr int64_t CHUNK = 256;  // rows that a thread takes at once

// The ratings lie in strata × strata blocks, of which those of a turn, (p, p + turn + epoch), share no row:
// threads take them side by side, to the same bits. Each turn visits a slice of its blocks, so that an epoch
// goes around all of them several times, and each epoch ends with other blocks.
//
// Lanes that take the ratings in one order go side by side; one whose epoch is below 0 stays as it is.
template <typename T> class EpochOfPairs {
 public:
  explicit EpochOfPairs(Call& call)
      : call_(call), operands_(call), strata_(call.attribute("strata")),
        slices_(call.attribute("slices")), threads_(call.attribute("threads")) {
    call.expect(22, 6);
    lanes_ = call.attribute("lanes");
    auto user = operands_.next<T>("user", of_lanes({Axis("users"), Axis("columns")}));
    const int64_t axis = user.rank - 2, users = user.shape[axis], columns = user.shape[axis + 1];
    auto item = operands_.next<T>("item", of_lanes({Axis("items"), Axis("columns", columns)}));
    const int64_t items = item.shape[axis];
    if (columns < 1) throw Refusal("user: expected a column at least");
    latent_ = rank_of(call, columns);
    wide_ = on_whole_lines<T>(latent_);
    abreast_ = call.attribute("abreast");
    if (strata_ < 1 || slices_ < 1 || abreast_ < 1 || abreast_ > MOST_ABREAST)
      throw Refusal("strata, slices and lanes abreast: expected one at least, and 4 lanes at most");
    block_ = operands_.next<int32_t>("block", {Axis("bounds", strata_ * strata_ + 1)});
    const Visited<T> visited(operands_, users, items);
    fold_ = visited.fold;
    ratings_ = visited.ratings;
    for (int64_t i = 0; i < strata_ * strata_; i++)
      if (block_[i] < 0 || block_[i] > block_[i + 1] || block_[i + 1] > fold_.size)
        throw Refusal("block: expected rising numbers from 0");
    read_side(0, users, columns, visited.row_at[0]);
    read_side(1, items, columns, visited.row_at[1]);
    for (size_t side = 0; side < 2; side++) read_columns(side, columns);
    held_out_ = operands_.next<int32_t>("lane's fold", of_lanes({}));
    scalars_ =
        operands_.next<T>("centre, alpha, gram_alpha and scale", of_lanes({Axis("scalars", 4)}));
    rates_ = operands_.next<T>("rates", of_lanes({Axis("visits")}));
    visits_ = rates_.shape[rates_.rank - 1];
    split_seed_ = operands_.next<int32_t>("split_seed", of_lanes({}));
    epoch_ = operands_.next<int32_t>("epoch", of_lanes({}));
    if (visits_ != 1 && visits_ != fold_.size)
      throw Refusal("rates: expected one, or one of each visit");
    order_ = call.output<int32_t>(3, "order", {Axis("ratings", fold_.size)}).data;
    sums_ = call.output<T>(2, "loss and squared change", of_lanes({Axis("sums", 2)}));
    std::fill(sums_.data, sums_.data + sums_.size, T(0));
  }

  void run() {
    std::vector<int64_t> left;
    for (int64_t lane = 0; lane < all(); lane++)
      if (epoch_[lane] >= 0) left.push_back(lane);
    if (left.empty()) std::fill(order_, order_ + fold_.size, 0);
    while (!left.empty()) {
      const int64_t first = left[0];
      std::vector<int64_t> same, rest;
      for (int64_t lane : left) (is_of_one_order(first, lane) ? same : rest).push_back(lane);
      order(first);
      const size_t most = size_t(std::min<int64_t>(abreast_, kernels<T>().most_abreast));
      for (size_t begin = 0; begin < same.size(); begin += most) {
        auto end = std::min(begin + most, same.size());
        pass({same.begin() + int64_t(begin), same.begin() + int64_t(end)});
      }
      left = rest;
    }
  }

 private:
  Call& call_;
  Operands operands_;
  const int64_t strata_, slices_, threads_;
  int64_t lanes_;  // 0: one, and no operand has an axis of lanes
  int64_t latent_, wide_, abreast_, visits_;
  Buffer<const int32_t> block_, fold_, held_out_, split_seed_, epoch_;
  const Rated<T>* ratings_;
  SideOfLanes<T> sides_[2];
  Buffer<const T> scalars_, rates_;
  int32_t* order_;
  Buffer<T> sums_;

  int64_t all() const { return lanes_ ? lanes_ : 1; }

  Axes of_lanes(Axes axes) const {
    if (lanes_) axes.insert(axes.begin(), Axis("lanes", lanes_));
    return axes;
  }

  void read_side(size_t side, int64_t rows, int64_t columns, const int32_t* row_at) {
    SideOfLanes<T>& of = sides_[side];
    const int64_t nth = int64_t(side);
    const Axes axes = of_lanes({Axis("rows", rows), Axis("columns", columns)});
    auto tables = call_.updated<T>(nth, nth, "table", axes);
    of.tables = {tables.data, all() * rows, columns};
    of.rows = rows;
    of.bias_column = latent_ < columns ? latent_ + nth : -1;
    of.row_at = row_at;
    const Axes of_rows = of_lanes({Axis("rows", rows)});
    of.row_reg = operands_.next<T>(side ? "σ" : "ρ", of_rows).data;
    of.share = operands_.next<T>(side ? "share of items" : "share of users", of_rows).data;
    const int64_t numbers = rows * abreast_ * (wide_ + 2);
    of.room = call_.output<T>(4 + nth, "room", {Axis("numbers", numbers)});
  }

  void read_columns(size_t side, int64_t columns) {
    SideOfLanes<T>& of = sides_[side];
    const Axes axes = of_lanes({Axis("columns", columns)});
    auto free = operands_.next<T>("free", axes), pin = operands_.next<T>("pin", axes);
    auto reg = operands_.next<T>("reg", axes);
    for (int64_t lane = 0; lane < all(); lane++) {
      const int64_t at = lane * columns;
      for (int64_t c = at; c < at + latent_; c++)
        if (free[c] != T(0) && reg[c] != reg[at])
          throw Refusal("reg: expected one λ of the latent columns");
      of.kept.emplace_back(Columns<T>{free.data + at, pin.data + at, reg.data + at}, latent_,
                           wide_);
      of.bias_reg.push_back(of.bias_column < 0 ? T(0) : reg[at + of.bias_column]);
    }
  }

  bool is_of_one_order(int64_t a, int64_t b) const {
    return split_seed_[a] == split_seed_[b] && epoch_[a] == epoch_[b];
  }

  void order(int64_t lane) {
    const uint32_t split_seed = uint32_t(split_seed_[lane]), number = uint32_t(epoch_[lane]);
    parallel(call_, threads_, strata_ * strata_, [&](int64_t nth) {
      kernels<T>().order(split_seed, number, block_[nth + 1] - block_[nth], order_ + block_[nth]);
    });
  }

  template <typename F> void by_rows(int64_t rows, const F& function) {
    parallel(call_, threads_, (rows + CHUNK - 1) / CHUNK, [&](int64_t chunk) {
      function(chunk, chunk * CHUNK, std::min(rows, (chunk + 1) * CHUNK));
    });
  }

  // The epoch of some lanes, all in the order that is there now.
  void pass(const std::vector<int64_t>& lanes) {
    int64_t abreast = 1;
    while (abreast < int64_t(lanes.size())) abreast *= 2;
    const Abreast<T> tables[] = {{sides_[0], lanes, abreast, latent_, wide_},
                                 {sides_[1], lanes, abreast, latent_, wide_}};
    for (size_t side = 0; side < 2; side++)
      by_rows(sides_[side].rows,
              [&](int64_t, int64_t first, int64_t last) { tables[side].read(first, last); });
    const Pairs<T> pairs = pairs_of(lanes, abreast, tables);
    const int64_t blocks = strata_ * strata_;
    std::vector<double> losses(size_t(blocks * abreast));
    std::vector<char> are_out(static_cast<size_t>(blocks));
    parallel(call_, threads_, slices_ * strata_, strata_, [&](int64_t nth) {
      const int64_t turn = nth / strata_, p = nth % strata_;
      const int64_t block = p * strata_ + (p + turn + epoch_[lanes[0]]) % strata_;
      visit(pairs, block, turn / strata_, &losses[size_t(block * abreast)], are_out[size_t(block)]);
    });
    for (char is_out : are_out)
      if (is_out) throw Refusal("rated: expected users and items of the tables");
    for (int64_t nth = 0; nth < int64_t(lanes.size()); nth++) {
      double loss = 0, squares = 0;
      for (int64_t block = 0; block < blocks; block++)
        loss += losses[size_t(block * abreast + nth)] / 2;
      for (size_t side = 0; side < 2; side++) {
        std::vector<Change> parts(size_t((sides_[side].rows + CHUNK - 1) / CHUNK));
        by_rows(sides_[side].rows, [&](int64_t chunk, int64_t first, int64_t last) {
          parts[size_t(chunk)] = tables[side].write(nth, first, last);
        });
        for (const Change& part : parts) squares += part.squares, loss += part.regularised;
      }
      const int64_t lane = lanes[size_t(nth)];
      sums_[2 * lane] = T(double(scalars_[4 * lane + 3]) * loss);
      sums_[2 * lane + 1] = T(squares);
    }
  }

  Pairs<T> pairs_of(const std::vector<int64_t>& lanes, int64_t abreast, const Abreast<T>* tables) {
    Pairs<T> pairs{};
    pairs.lanes = abreast;
    pairs.user = tables[0].rows();
    pairs.item = tables[1].rows();
    const bool has_bias = sides_[0].bias_column >= 0;
    pairs.user_bias = has_bias ? tables[0].bias() : nullptr;
    pairs.item_bias = has_bias ? tables[1].bias() : nullptr;
    pairs.user_share = tables[0].share();
    pairs.item_share = tables[1].share();
    pairs.is_one_fold = true;
    for (int64_t nth = 0; nth < abreast; nth++) {
      const bool is_lane = nth < int64_t(lanes.size());
      const int64_t lane = lanes[size_t(is_lane ? nth : 0)];
      pairs.held_out[nth] = held_out_[lane];
      if (held_out_[lane] >= 0) pairs.fold = fold_.data;
      pairs.is_one_fold &= held_out_[lane] == pairs.held_out[0];
      pairs.centre[nth] = scalars_[4 * lane];
      pairs.scale[nth] = is_lane ? scalars_[4 * lane + 3] : T(0);
      pairs.user_reg[nth] = sides_[0].kept[size_t(lane)].whole().reg[0];
      pairs.item_reg[nth] = sides_[1].kept[size_t(lane)].whole().reg[0];
      pairs.user_bias_reg[nth] = sides_[0].bias_reg[size_t(lane)];
      pairs.item_bias_reg[nth] = sides_[1].bias_reg[size_t(lane)];
      pairs.rates[nth] = {rates_.data + lane * visits_, visits_ == 1 ? 0 : 1};
    }
    return pairs;
  }

  void visit(Pairs<T> part, int64_t block, int64_t slice, double* losses, char& are_out) {
    const int64_t begin = block_[block], count = block_[block + 1] - begin;
    const int64_t first = count * slice / slices_, last = count * (slice + 1) / slices_;
    bool is_out = false;
    part.ratings = ratings_ + begin;
    if (part.fold) part.fold += begin;
    part.order = order_ + begin + first;
    part.visits = last - first;
    for (Rates<T>& rates : part.rates) rates.data += (begin + first) * rates.step;
    part.is_out_of_range = &is_out;
    kernels<T>().visit_pairs(part, losses);
    are_out |= char(is_out);
  }
};

}  // namespace

void pairs(Call& call) {
  if (call.input_type(0) == ffi::ElementType::float64)
    EpochOfPairs<double>(call).run();
  else
    EpochOfPairs<float>(call).run();
}

}  // namespace mfjax
