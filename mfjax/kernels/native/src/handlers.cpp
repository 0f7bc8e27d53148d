// What XLA calls: operands, checked, to kernels of the instruction set that this machine has.
#include <cstdlib>
#include <string>
#include <vector>

#include "call.h"
#include "kernels.h"

namespace mfjax {
namespace {

using ffi::Axes;
using ffi::Axis;
using ffi::Buffer;
using ffi::Call;
using ffi::Refusal;

// the instruction set: the best that there is, or a lesser one that MFJAX_ISA asks for

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

template <typename T> const Kernels<T>& kernels() {
#if defined(__x86_64__)
  static const int isa = best_isa();
  if (isa == 2) return avx512::kernels<T>();
  if (isa == 1) return avx2::kernels<T>();
#endif
  return base::kernels<T>();
}

// operands, one after another

class Operands {
 public:
  explicit Operands(const Call& call) : call_(call) {}

  template <typename T> Buffer<const T> next(const char* name, Axes axes) {
    return call_.input<T>(at_++, name, axes);
  }
  template <typename T> T scalar(const char* name) { return *next<T>(name, {}).data; }
  int64_t read() const { return at_; }

 private:
  const Call& call_;
  int64_t at_ = 0;
};

template <typename T> Table<const T> table(Operands& operands, const char* name) {
  auto rows = operands.next<T>(name, {Axis("rows"), Axis("columns")});
  if (rows.shape[1] < 1) throw Refusal(std::string(name) + ": expected a column at least");
  return {rows.data, rows.shape[0], rows.shape[1]};
}

template <typename T> Columns<T> columns(Operands& operands, int64_t count) {
  Axes axes = {Axis("columns", count)};
  auto free = operands.next<T>("free", axes);
  auto pin = operands.next<T>("pin", axes);
  auto reg = operands.next<T>("reg", axes);
  return {free.data, pin.data, reg.data};
}

// The ratings of one side, and the rows at which its chunks of about equal cost begin.
template <typename T> struct Rows {
  Ratings<T> ratings;
  Buffer<const int32_t> chunk;

  Rows(Operands& operands, int64_t rows) {
    auto start = operands.next<int32_t>("start", {Axis("ends", rows + 1)});
    auto col = operands.next<int32_t>("col", {Axis("ratings")});
    Axes axes = {Axis("ratings", col.size)};
    auto value = operands.next<T>("value", axes);
    auto weight = operands.next<T>("weight", axes);
    auto fold = operands.next<int32_t>("fold", axes);
    chunk = operands.next<int32_t>("chunk", {Axis("bounds")});
    ratings = {start.data, col.data, value.data, weight.data, fold.data};
    check_ends("start", start, col.size);  // padding may stand after the last
    check_ends("chunk", chunk, rows);
    if (chunk[chunk.size - 1] != rows) throw Refusal("chunk: expected all rows");
  }

  int64_t chunks() const { return chunk.size - 1; }

 private:
  static void check_ends(const char* name, Buffer<const int32_t> ends, int64_t last) {
    bool is_rising = ends.size > 0 && ends[0] == 0 && ends[ends.size - 1] <= last;
    for (int64_t i = 1; i < ends.size; i++) is_rising &= ends[i - 1] <= ends[i];
    if (!is_rising)
      throw Refusal(std::string(name) + ": expected rising numbers from 0 to at most " +
                    std::to_string(last));
  }
};

template <typename T> Lane<T> lane(Operands& operands, const Call& call) {
  auto fold = operands.scalar<int32_t>("lane's fold");
  auto scalars = operands.next<T>("centre, alpha, gram_alpha and scale", {Axis("scalars", 4)});
  return {fold,       scalars[0], scalars[1],
          scalars[2], scalars[3], call.attribute("missing") != 0};
}

// Whether the ratings of some rows are of rows that the other side has; asked by who reads them.
template <typename T> bool are_of_rows(const Side<T>& side, int64_t first, int64_t last) {
  bool are = true;
  for (int32_t n = side.ratings.start[first]; n < side.ratings.start[last]; n++)
    are &= uint32_t(side.ratings.col[n]) < uint64_t(side.other.rows);
  return are;
}

// function(chunk, first row, last row) for each chunk of a side; refuses ratings of no row.
template <typename T, typename F>
void by_chunk(const Call& call, const Rows<T>& rows, const Side<T>& side, const F& function) {
  std::vector<char> are_fine(size_t(rows.chunks()), 1);
  parallel(call, call.attribute("threads"), rows.chunks(), [&](int64_t chunk) {
    int64_t first = rows.chunk[chunk], last = rows.chunk[chunk + 1];
    if (are_of_rows(side, first, last))
      function(chunk, first, last);
    else
      are_fine[size_t(chunk)] = 0;
  });
  for (char is_fine : are_fine)
    if (!is_fine)
      throw Refusal("col: expected rows from 0 to " + std::to_string(side.other.rows - 1));
}

double total(const std::vector<double>& parts) {
  double sum = 0;
  for (double part : parts) sum += part;
  return sum;
}

// the handlers

template <typename T> void gradient_of(Call& call) {
  call.expect(25, 3);
  Operands operands(call);
  auto user = table<T>(operands, "user"), item = table<T>(operands, "item");
  Rows<T> by_user(operands, user.rows), by_item(operands, item.rows);
  auto user_reg = operands.next<T>("row_reg of users", {Axis("users", user.rows)});
  auto item_reg = operands.next<T>("row_reg of items", {Axis("items", item.rows)});
  auto user_columns = columns<T>(operands, user.columns);
  auto item_columns = columns<T>(operands, user.columns);
  auto background = operands.next<T>("background", {Axis("items", item.rows)});
  auto terms = lane<T>(operands, call);
  int64_t rank = call.attribute("rank");
  if (item.columns != user.columns) throw Refusal("user and item: expected as many columns");
  Side<T> of_user{user,      item,          user_columns, item_columns,    by_user.ratings,
                  user_reg.data, rank, background.data,    false, terms};
  Side<T> of_item{item,      user,          item_columns, user_columns,    by_item.ratings,
                  item_reg.data, rank, background.data,    true,  terms};
  auto loss = call.output<T>(0, "loss", {});
  auto user_grad = call.output<T>(1, "gradient of users", {Axis("users", user.rows), Axis("columns", user.columns)});
  auto item_grad = call.output<T>(2, "gradient of items", {Axis("items", item.rows), Axis("columns", user.columns)});
  std::vector<double> parts(size_t(by_user.chunks() + by_item.chunks()));
  by_chunk(call, by_user, of_user, [&](int64_t chunk, int64_t first, int64_t last) {
    parts[size_t(chunk)] = kernels<T>().gradient(of_user, first, last, user_grad.data);
  });
  by_chunk(call, by_item, of_item, [&](int64_t chunk, int64_t first, int64_t last) {
    parts[size_t(by_user.chunks() + chunk)] =
        kernels<T>().gradient(of_item, first, last, item_grad.data);
  });
  loss[0] = T(total(parts));
}

// One side's rows, its ratings and its lane, of the handlers below.
template <typename T> struct OneSide {
  Table<const T> own, other;
  Rows<T> rows;
  Side<T> side;

  OneSide(Operands& operands, const Call& call)
      : own(table<T>(operands, "own")),
        other(table<T>(operands, "other")),
        rows(operands, own.rows) {
    if (own.columns != other.columns) throw Refusal("own and other: expected as many columns");
    bool is_item = call.attribute("is_item") != 0;
    auto row_reg = operands.next<T>("row_reg", {Axis("rows", own.rows)});
    auto own_columns = columns<T>(operands, own.columns);
    auto other_columns = columns<T>(operands, own.columns);
    int64_t items = is_item ? own.rows : other.rows;
    auto background = operands.next<T>("background", {Axis("items", items)});
    int64_t rank = call.attribute("rank");
    if (rank != own.columns && rank != own.columns - 2)
      throw Refusal("rank: expected the columns, or those less 2 for the biases");
    side = {own,  other,           own_columns, other_columns,     rows.ratings,
            row_reg.data, rank, background.data, is_item, lane<T>(operands, call)};
  }
};

template <typename T> void loss_of(Call& call) {
  call.expect(18, 1);
  Operands operands(call);
  OneSide<T> one(operands, call);
  std::vector<double> parts(size_t(one.rows.chunks()));
  by_chunk(call, one.rows, one.side, [&](int64_t chunk, int64_t first, int64_t last) {
    parts[size_t(chunk)] = kernels<T>().loss(one.side, first, last);
  });
  call.output<T>(0, "loss", {})[0] = T(total(parts));
}

template <typename T> void rows_of(Call& call) {
  call.expect(21, 1);
  Operands operands(call);
  OneSide<T> one(operands, call);
  int64_t columns = one.own.columns;
  auto gram = operands.next<T>("gram", {Axis("columns", columns), Axis("columns", columns)});
  auto target = operands.next<T>("target", {Axis("columns", columns)});
  auto sum = operands.next<T>("sum", {Axis("columns", columns)});
  Missing<T> missing{gram.data, target.data, sum.data};
  auto rows = call.output<T>(0, "rows", {Axis("rows", one.own.rows), Axis("columns", columns)});
  int64_t steps = call.attribute("steps");
  by_chunk(call, one.rows, one.side, [&](int64_t, int64_t first, int64_t last) {
    if (steps < 0)
      kernels<T>().solve(one.side, missing, first, last, rows.data);
    else
      kernels<T>().approach(one.side, missing, steps, first, last, rows.data);
  });
}

template <typename T> void predictions_of(Call& call) {
  call.expect(4, 1);
  Operands operands(call);
  auto user = table<T>(operands, "user"), item = table<T>(operands, "item");
  auto user_of = operands.next<int32_t>("user of each rating", {Axis("ratings")});
  auto item_of = operands.next<int32_t>("item of each rating", {Axis("ratings", user_of.size)});
  check_indices(user_of, user.rows, "user of each rating");
  check_indices(item_of, item.rows, "item of each rating");
  auto predictions = call.output<T>(0, "predictions", {Axis("ratings", user_of.size)});
  constexpr int64_t CHUNK = 8192;
  parallel(call, call.attribute("threads"), (user_of.size + CHUNK - 1) / CHUNK, [&](int64_t chunk) {
    int64_t first = chunk * CHUNK;
    int64_t last = first + CHUNK < user_of.size ? first + CHUNK : user_of.size;
    kernels<T>().predict(user, item, user_of.data, item_of.data, first, last, predictions.data);
  });
}

// An epoch of `sgd`. The ratings lie in strata × strata blocks, of which those of a turn, (p, p + turn),
// share no row: threads take them side by side, to the same bits. Each turn visits a slice of its blocks,
// so that an epoch goes around all of them several times.
template <typename T> void epoch_of(Call& call) {
  const int64_t moments = call.attribute("moments"), strata = call.attribute("strata");
  call.expect(20 + 2 * moments, 4 + 2 * moments);
  Operands operands(call);
  auto user_in = table<T>(operands, "user"), item_in = table<T>(operands, "item");
  auto updated = [&](int64_t input, int64_t output, const Table<const T>& like) -> Table<T> {
    Axes axes = {Axis("rows", like.rows), Axis("columns", like.columns)};
    return {call.updated<T>(input, output, "table", axes).data, like.rows, like.columns};
  };
  Epoch<T> epoch{};
  epoch.user = updated(0, 0, user_in);
  epoch.item = updated(1, 1, item_in);
  if (item_in.columns != user_in.columns) throw Refusal("user and item: expected as many columns");
  auto fold = operands.next<int32_t>("fold", {Axis("ratings")});
  constexpr int64_t WORDS = sizeof(Rated<T>) / sizeof(int32_t);
  auto rated = operands.next<int32_t>("rated", {Axis("ratings", fold.size), Axis("words", WORDS)});
  auto block = operands.next<int32_t>("block", {Axis("bounds", strata * strata + 1)});
  auto user_share = operands.next<T>("share of users", {Axis("users", user_in.rows)});
  auto item_share = operands.next<T>("share of items", {Axis("items", item_in.rows)});
  epoch.user_columns = columns<T>(operands, user_in.columns);
  epoch.item_columns = columns<T>(operands, user_in.columns);
  epoch.lane = lane<T>(operands, call);
  epoch.batch_size = call.attribute("batch_size");
  auto rates = operands.next<T>("rates", {Axis("batches")});
  auto options = operands.next<T>("options of the rule", {Axis("options", 4)});
  auto updates = operands.scalar<int32_t>("updates");
  auto split_seed = operands.scalar<int32_t>("split_seed");
  auto number = operands.scalar<int32_t>("epoch");
  if (epoch.batch_size < 1 || rates.size * epoch.batch_size < fold.size)
    throw Refusal("rates: expected one of each batch");
  for (int64_t moment = 0; moment < moments; moment++)
    for (int side = 0; side < 2; side++) {
      int64_t at = 2 * moment + side;
      auto like = side ? item_in : user_in;
      (moment ? epoch.second : epoch.first)[side] = updated(operands.read() + at, 3 + at, like);
    }
  auto loss = call.output<T>(2, "loss", {});
  auto order = call.output<int32_t>(3 + 2 * moments, "order", {Axis("ratings", fold.size)});
  epoch.user_share = user_share.data;
  epoch.item_share = item_share.data;
  epoch.options = options.data;
  epoch.rule = Rule(call.attribute("rule"));
  const int64_t blocks = strata * strata;
  for (int64_t i = 0; i < blocks; i++)
    if (block[i] < 0 || block[i] > block[i + 1] || block[i + 1] > fold.size)
      throw Refusal("block: expected rising numbers from 0");
  const int64_t threads = call.attribute("threads"), slices = call.attribute("slices");
  std::vector<double> parts(size_t(blocks), 0);
  std::vector<char> are_out(size_t(blocks), 0);
  parallel(call, threads, blocks, [&](int64_t nth) {
    kernels<T>().order(uint32_t(split_seed), uint32_t(number), block[nth + 1] - block[nth],
                       order.data + block[nth]);
  });
  auto visit = [&](int64_t nth, int64_t slice) {
    int64_t begin = block[nth], count = block[nth + 1] - begin;
    int64_t first = count * slice / slices, last = count * (slice + 1) / slices;
    Epoch<T> part = epoch;
    bool is_out = false;
    part.order = order.data + begin + first;
    part.visits = last - first;
    part.ratings = reinterpret_cast<const Rated<T>*>(rated.data) + begin;
    part.fold = fold.data + begin;
    part.rates = rates.data + (begin + first) / epoch.batch_size;
    part.updates = updates;
    part.is_out_of_range = &is_out;
    parts[size_t(nth)] += kernels<T>().visit(part);
    are_out[size_t(nth)] |= char(is_out);
  };
  for (int64_t turn = 0; turn < slices * strata; turn++)
    parallel(call, threads, strata, [&](int64_t p) {
      visit(p * strata + (p + turn) % strata, turn / strata);
    });
  for (char is_out : are_out)
    if (is_out) throw Refusal("rated: expected users and items of the tables");
  loss[0] = T(double(epoch.lane.scale) * total(parts));
}

void gradient(Call& call) {
  call.input_type(0) == ffi::ElementType::float64 ? gradient_of<double>(call) : gradient_of<float>(call);
}
void loss(Call& call) {
  call.input_type(0) == ffi::ElementType::float64 ? loss_of<double>(call) : loss_of<float>(call);
}
void rows(Call& call) {
  call.input_type(0) == ffi::ElementType::float64 ? rows_of<double>(call) : rows_of<float>(call);
}
void predictions(Call& call) {
  call.input_type(0) == ffi::ElementType::float64 ? predictions_of<double>(call)
                                                  : predictions_of<float>(call);
}
void epoch(Call& call) {
  call.input_type(0) == ffi::ElementType::float64 ? epoch_of<double>(call) : epoch_of<float>(call);
}

constexpr ffi::NamedHandler HANDLERS[] = {
    {"mfjax_gradient", ffi::entry<gradient>}, {"mfjax_loss", ffi::entry<loss>},
    {"mfjax_rows", ffi::entry<rows>},         {"mfjax_predictions", ffi::entry<predictions>},
    {"mfjax_epoch", ffi::entry<epoch>},       {nullptr, nullptr},
};

}  // namespace
}  // namespace mfjax

extern "C" MFJAX_EXPORT const mfjax::ffi::NamedHandler* mfjax_handlers() { return mfjax::HANDLERS; }

extern "C" MFJAX_EXPORT const char* mfjax_isa() { return mfjax::kernels<float>().name; }
