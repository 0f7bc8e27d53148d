// An epoch of stochastic gradient descent in batches, as XLA calls it.
#include <optional>

#include "aligned.h"
#include "visited.h"

namespace mfjax {
namespace {

template <typename T> class EpochOfBatches {
 public:
  explicit EpochOfBatches(Call& call)
      : call_(call), operands_(call), moments_(call.attribute("moments")) {
    call.expect(23 + 2 * moments_, 6 + 4 * moments_);
    auto user = table<T>(operands_, "user");
    auto item = table<T>(operands_, "item", Axis("columns", user.columns));
    const int64_t rank = rank_of(call, user.columns);
    epoch_.rule = rule_of(call.attribute("rule"));
    const bool is_apart = epoch_.rule == Rule::sgd && rank < user.columns;
    kept_ = is_apart ? rank : user.columns;
    wide_ = on_whole_lines<T>(kept_);
    const Visited<T> visited(operands_, user.rows, item.rows);
    row_at_[0] = visited.row_at[0];
    row_at_[1] = visited.row_at[1];
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
    epoch_.ratings = visited.ratings;
    epoch_.fold = epoch_.lane.fold >= 0 ? visited.fold.data : nullptr;
    epoch_.visits = visited.fold.size;
    epoch_.rates = {rates.data, rates.size == 1 ? 0 : 1};
    order_ = call.output<int32_t>(3 + 2 * moments_, "order", {Axis("ratings", epoch_.visits)}).data;
    epoch_.order = order_;
    if (epoch_.batch_size < 1 ||
        (rates.size != 1 && rates.size * epoch_.batch_size < epoch_.visits))
      throw Refusal("rates: expected one, or one of each batch");
    align(user, item, is_apart ? rank : -1);
    if (is_apart)
      epoch_.bias = {tables_[0].bias.data(), tables_[1].bias.data(), of_user.reg[rank],
                     of_item.reg[rank + 1]};
  }

  void run() {
    for (Aligned<T>& table : tables_) table.read();
    kernels<T>().order(split_seed_, number_, epoch_.visits, order_);
    bool is_out = false;
    epoch_.is_out_of_range = &is_out;
    double loss = kernels<T>().visit_batches(epoch_);
    if (is_out) throw Refusal("rated: expected users and items of the tables");
    const Change user = write(0, epoch_.user_columns, epoch_.bias.user_reg);
    const Change item = write(1, epoch_.item_columns, epoch_.bias.item_reg);
    loss += user.regularised + item.regularised;
    auto sums = call_.output<T>(2, "loss and squared change", {Axis("sums", 2)});
    sums[0] = T(double(epoch_.lane.scale) * loss);
    sums[1] = T(user.squares + item.squares);
  }

 private:
  Call& call_;
  Operands operands_;
  const int64_t moments_;
  int64_t kept_, wide_;
  uint32_t split_seed_, number_;
  const int32_t* row_at_[2];
  const T* row_reg_[2];
  std::optional<Wide<T>> user_columns_, item_columns_;
  int32_t* order_;
  Epoch<T> epoch_{};
  std::vector<Aligned<T>> tables_;  // of users and items: factors, then moments

  Rule rule_of(int64_t rule) const {
    constexpr int64_t MOMENTS[] = {0, 1, 1, 1, 2};  // of each rule
    if (rule < 0 || rule > 4 || moments_ != MOMENTS[rule])
      throw Refusal("rule: expected 0 to 4, with its moments");
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
      tables_.emplace_back(table, row_at_[nth % 2], room, kept_, bias_of_side);
    }
    epoch_.user = tables_[0].rows();
    epoch_.item = tables_[1].rows();
    for (size_t side = 0; side < 2; side++) {
      if (moments_ > 0) epoch_.first[side] = tables_[2 + side].rows();
      if (moments_ > 1) epoch_.second[side] = tables_[4 + side].rows();
    }
  }

  // The tables of one side as they are now, and what has changed of the first, its factors.
  Change write(size_t side, const Columns<T>& kept, T bias_reg) {
    const Change change = tables_[side].write(row_reg_[side], kept, bias_reg);
    for (size_t nth = side + 2; nth < tables_.size(); nth += 2)
      tables_[nth].write(row_reg_[side], kept, bias_reg);
    return change;
  }
};

}  // namespace

void epoch(Call& call) {
  if (call.input_type(0) == ffi::ElementType::float64)
    EpochOfBatches<double>(call).run();
  else
    EpochOfBatches<float>(call).run();
}

}  // namespace mfjax
