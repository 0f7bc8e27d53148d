// An epoch of stochastic gradient descent, as XLA calls it.
#include <optional>

#include "aligned.h"

namespace mfjax {
namespace {

constexpr int64_t CHUNK = 256;  // rows that a thread takes at once

// The ratings lie in strata × strata blocks, of which those of a turn, (p, p + turn + epoch), share no row:
// threads take them side by side, to the same bits. Each turn visits a slice of its blocks, so that an epoch
// goes around all of them several times, and each epoch ends with other blocks.
template <typename T> class EpochOfBlocks {
 public:
  explicit EpochOfBlocks(Call& call)
      : call_(call), operands_(call), moments_(call.attribute("moments")),
        strata_(call.attribute("strata")), slices_(call.attribute("slices")),
        threads_(call.attribute("threads")) {
    call.expect(24 + 2 * moments_, 6 + 4 * moments_);
    auto user = table<T>(operands_, "user");
    auto item = table<T>(operands_, "item", Axis("columns", user.columns));
    const int64_t rank = rank_of(call, user.columns);
    epoch_.rule = rule_of(call.attribute("rule"));
    const bool is_apart = epoch_.rule == Rule::sgd && rank < user.columns;
    kept_ = is_apart ? rank : user.columns;
    wide_ = on_whole_lines<T>(kept_);
    auto fold = operands_.next<int32_t>("fold", {Axis("ratings")});
    constexpr int64_t WORDS = sizeof(Rated<T>) / sizeof(int32_t);
    Axes axes = {Axis("ratings", fold.size), Axis("words", WORDS)};
    auto rated = operands_.next<int32_t>("rated", axes);
    block_ = operands_.next<int32_t>("block", {Axis("bounds", strata_ * strata_ + 1)});
    row_at_[0] = operands_.next<int32_t>("rows of users", {Axis("users", user.rows)});
    row_at_[1] = operands_.next<int32_t>("rows of items", {Axis("items", item.rows)});
    for (Buffer<const int32_t> row_at : row_at_)
      for (int64_t p = 0; p < row_at.size; p++)
        if (row_at[p] < 0 || row_at[p] >= row_at.size)
          throw Refusal("rows: expected rows of the tables");
    row_reg_[0] = operands_.next<T>("ρ", {Axis("users", user.rows)}).data;
    row_reg_[1] = operands_.next<T>("σ", {Axis("items", item.rows)}).data;
    epoch_.user_share = operands_.next<T>("share of users", {Axis("users", user.rows)}).data;
    epoch_.item_share = operands_.next<T>("share of items", {Axis("items", item.rows)}).data;
    const Columns<T> of_user = columns<T>(operands_, user.columns);
    const Columns<T> of_item = columns<T>(operands_, user.columns);
    user_columns_.emplace(of_user, kept_, wide_);
    item_columns_.emplace(of_item, kept_, wide_);
    epoch_.user_columns = user_columns_->whole();
    epoch_.item_columns = item_columns_->whole();
    epoch_.lane = lane<T>(operands_, call);
    epoch_.batch_size = call.attribute("batch_size");
    auto rates = operands_.next<T>("rates", {Axis("batches")});
    epoch_.options = operands_.next<T>("options of the rule", {Axis("options", 4)}).data;
    epoch_.updates = operands_.scalar<int32_t>("updates");
    split_seed_ = uint32_t(operands_.scalar<int32_t>("split_seed"));
    number_ = uint32_t(operands_.scalar<int32_t>("epoch"));
    epoch_.ratings = reinterpret_cast<const Rated<T>*>(rated.data);
    epoch_.fold = fold.data;
    epoch_.rates = {rates.data, rates.size == 1 ? 0 : 1};
    order_ = call.output<int32_t>(3 + 2 * moments_, "order", {Axis("ratings", fold.size)}).data;
    if (epoch_.batch_size < 1 || (rates.size != 1 && rates.size * epoch_.batch_size < fold.size))
      throw Refusal("rates: expected one, or one of each batch");
    for (int64_t i = 0; i < strata_ * strata_; i++)
      if (block_[i] < 0 || block_[i] > block_[i + 1] || block_[i + 1] > fold.size)
        throw Refusal("block: expected rising numbers from 0");
    align(user, item, is_apart ? rank : -1);
    if (is_apart)
      epoch_.bias = {tables_[0].bias.data(), tables_[1].bias.data(), of_user.reg[rank],
                     of_item.reg[rank + 1]};
  }

  void run() {
    const int64_t blocks = strata_ * strata_;
    losses_.assign(size_t(blocks), 0);
    are_out_.assign(size_t(blocks), 0);
    for (Aligned<T>& table : tables_)
      by_chunk(table, [&](int64_t, int64_t first, int64_t last) { table.read(first, last); });
    parallel(call_, threads_, blocks, [&](int64_t nth) {
      kernels<T>().order(split_seed_, number_, block_[nth + 1] - block_[nth], order_ + block_[nth]);
    });
    parallel(call_, threads_, slices_ * strata_, strata_, [&](int64_t nth) {
      int64_t turn = nth / strata_, p = nth % strata_;
      visit(p * strata_ + (p + turn + number_) % strata_, turn / strata_);
    });
    for (char is_out : are_out_)
      if (is_out) throw Refusal("rated: expected users and items of the tables");
    const Change user = write(0, epoch_.user_columns, epoch_.bias.user_reg);
    const Change item = write(1, epoch_.item_columns, epoch_.bias.item_reg);
    double loss = total(losses_) + user.regularised + item.regularised;
    auto sums = call_.output<T>(2, "loss and squared change", {Axis("sums", 2)});
    sums[0] = T(double(epoch_.lane.scale) * loss);
    sums[1] = T(user.squares + item.squares);
  }

 private:
  Call& call_;
  Operands operands_;
  const int64_t moments_, strata_, slices_, threads_;
  int64_t kept_, wide_;
  uint32_t split_seed_, number_;
  Buffer<const int32_t> block_, row_at_[2];
  const T* row_reg_[2];
  std::optional<Wide<T>> user_columns_, item_columns_;
  int32_t* order_;
  Epoch<T> epoch_{};
  std::vector<Aligned<T>> tables_;  // of users and items: factors, then moments
  std::vector<double> losses_;
  std::vector<char> are_out_;

  Rule rule_of(int64_t rule) const {
    constexpr int64_t MOMENTS[] = {0, 1, 1, 1, 2};  // of each rule
    if (rule < 0 || rule > 4 || moments_ != MOMENTS[rule] || strata_ < 1 || slices_ < 1)
      throw Refusal("rule: expected 0 to 4 with its moments, and a stratum and a slice at least");
    return Rule(rule);
  }

  // The tables on whole lines, in the room that XLA gives beside the results.
  void align(const Table<const T>& user, const Table<const T>& item, int64_t bias_column) {
    tables_.reserve(size_t(2 + 2 * moments_));
    for (int64_t nth = 0; nth < 2 + 2 * moments_; nth++) {
      int64_t rows = nth % 2 ? item.rows : user.rows;
      int64_t input = nth < 2 ? nth : operands_.read() + nth - 2;
      int64_t output = nth < 2 ? nth : nth + 1;
      Axes axes = {Axis("rows", rows), Axis("columns", user.columns)};
      auto table = call_.updated<T>(input, output, "table", axes);
      Axes of_room = {Axis("rows", rows), Axis("columns of whole lines", wide_)};
      auto room = call_.output<T>(4 + 2 * moments_ + nth, "room", of_room);
      int64_t bias_of_side = bias_column < 0 ? -1 : bias_column + nth % 2;
      tables_.emplace_back(table, row_at_[nth % 2].data, room, kept_, bias_of_side);
    }
    epoch_.user = tables_[0].rows();
    epoch_.item = tables_[1].rows();
    for (size_t side = 0; side < 2; side++) {
      if (moments_ > 0) epoch_.first[side] = tables_[2 + side].rows();
      if (moments_ > 1) epoch_.second[side] = tables_[4 + side].rows();
    }
  }

  template <typename F> void by_chunk(const Aligned<T>& table, const F& function) {
    const int64_t rows = table.rows().rows;
    parallel(call_, threads_, (rows + CHUNK - 1) / CHUNK, [&](int64_t chunk) {
      int64_t first = chunk * CHUNK;
      function(chunk, first, first + CHUNK < rows ? first + CHUNK : rows);
    });
  }

  // The tables of one side as they are now, and what has changed of the first, its factors.
  Change write(size_t side, const Columns<T>& kept, T bias_reg) {
    Aligned<T>& factors = tables_[side];
    std::vector<Change> parts(size_t((factors.rows().rows + CHUNK - 1) / CHUNK));
    by_chunk(factors, [&](int64_t chunk, int64_t first, int64_t last) {
      parts[size_t(chunk)] = factors.change(row_reg_[side], kept, bias_reg, first, last);
      for (size_t nth = side; nth < tables_.size(); nth += 2) tables_[nth].write(first, last);
    });
    Change sum = {};
    for (const Change& part : parts) {
      sum.squares += part.squares;
      sum.regularised += part.regularised;
    }
    return sum;
  }

  void visit(int64_t nth, int64_t slice) {
    int64_t begin = block_[nth], count = block_[nth + 1] - begin;
    int64_t first = count * slice / slices_, last = count * (slice + 1) / slices_;
    Epoch<T> part = epoch_;
    bool is_out = false;
    part.order = order_ + begin + first;
    part.visits = last - first;
    part.ratings += begin;
    part.fold += begin;
    part.rates.data += (begin + first) / epoch_.batch_size * epoch_.rates.step;
    part.is_out_of_range = &is_out;
    losses_[size_t(nth)] += kernels<T>().visit(part);
    are_out_[size_t(nth)] |= char(is_out);
  }
};

}  // namespace

void epoch(Call& call) {
  if (call.input_type(0) == ffi::ElementType::float64)
    EpochOfBlocks<double>(call).run();
  else
    EpochOfBlocks<float>(call).run();
}

}  // namespace mfjax
