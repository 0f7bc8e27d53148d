// What XLA calls, but for the epochs of `sgd`: gradients, losses, rows of one side, errors.
#include "latent.h"

namespace mfjax {

void epoch(Call& call);  // of epochs.cpp
void pairs(Call& call);  // of pairs.cpp

namespace {

// A factor table, its columns, and both as sums over ratings read them.
template <typename T> struct Factors {
  Table<const T> table;
  int64_t rank;
  bool is_item;
  Columns<T> columns;
  Wide<T> wide;

  Factors(Operands& operands, const Call& call, const Table<const T>& table, bool is_item)
      : table(table), rank(rank_of(call, table.columns)), is_item(is_item),
        columns(mfjax::columns<T>(operands, table.columns)),
        wide(columns, rank, on_whole_lines<T>(rank)) {}

  // In the room of a result.
  Latent<T> latent(const Call& call, int64_t room) const {
    return mfjax::latent(call, room, table, columns.free, rank, is_item);
  }
  T bias_reg() const { return rank < table.columns ? columns.reg[rank + is_item] : T(0); }
};

template <typename T>
Side<T> side_of(const Factors<T>& own, const Latent<T>& other, int64_t other_rows,
                const Ratings<T>& ratings, const T* row_reg, const T* background,
                const Lane<T>& lane) {
  return {own.table,      other,      other_rows,  own.wide.whole(),
          own.bias_reg(), own.rank,   own.is_item, ratings,
          row_reg,        background, lane};
}

template <typename T> void gradient_of(Call& call) {
  call.expect(25, 5);
  Operands operands(call);
  auto user = table<T>(operands, "user");
  auto item = table<T>(operands, "item", Axis("columns", user.columns));
  Rows<T> by_user(operands, user.rows), by_item(operands, item.rows);
  auto user_reg = operands.next<T>("row_reg of users", {Axis("users", user.rows)}).data;
  auto item_reg = operands.next<T>("row_reg of items", {Axis("items", item.rows)}).data;
  const Factors<T> users(operands, call, user, false), items(operands, call, item, true);
  auto background = operands.next<T>("background", {Axis("items", item.rows)}).data;
  auto terms = lane<T>(operands, call);
  const Side<T> of_user = side_of(users, items.latent(call, 4), item.rows, by_user.ratings,
                                  user_reg, background, terms);
  const Side<T> of_item = side_of(items, users.latent(call, 3), user.rows, by_item.ratings,
                                  item_reg, background, terms);
  auto loss = call.output<T>(0, "loss", {});
  auto user_grad = call.output<T>(1, "gradient of users",
                                  {Axis("users", user.rows), Axis("columns", user.columns)});
  auto item_grad = call.output<T>(2, "gradient of items",
                                  {Axis("items", item.rows), Axis("columns", user.columns)});
  const int64_t of_users = by_user.chunks();
  std::vector<double> parts(size_t(of_users + by_item.chunks()));
  parallel(call, call.attribute("threads"), int64_t(parts.size()), [&](int64_t part) {
    const bool is_item = part >= of_users;
    const Side<T>& side = is_item ? of_item : of_user;
    const int32_t* const row = is_item ? &by_item.chunk[part - of_users] : &by_user.chunk[part];
    check_rows(side, row[0], row[1]);
    parts[size_t(part)] =
        kernels<T>().gradient(side, row[0], row[1], is_item ? item_grad.data : user_grad.data);
  });
  loss[0] = T(total(parts));
}

// One side's rows, its ratings and its lane; of the results, `room` is that for the other side.
template <typename T> struct OneSide {
  bool is_item;
  Table<const T> own, other;
  Rows<T> rows;
  const T* row_reg;
  Factors<T> owns, others;
  const T* background;
  Side<T> side;

  OneSide(Operands& operands, const Call& call, int64_t room = 1)
      : is_item(call.attribute("is_item") != 0), own(table<T>(operands, "own")),
        other(table<T>(operands, "other", Axis("columns", own.columns))), rows(operands, own.rows),
        row_reg(operands.next<T>("row_reg", {Axis("rows", own.rows)}).data),
        owns(operands, call, own, is_item), others(operands, call, other, !is_item),
        background(
            operands.next<T>("background", {Axis("items", is_item ? own.rows : other.rows)}).data),
        side(side_of(owns, others.latent(call, room), other.rows, rows.ratings, row_reg, background,
                     lane<T>(operands, call))) {}
};

template <typename T> void loss_of(Call& call) {
  call.expect(18, 2);
  Operands operands(call);
  OneSide<T> one(operands, call);
  std::vector<double> parts(size_t(one.rows.chunks()));
  by_chunk(call, one.rows, one.side, [&](int64_t chunk, int64_t first, int64_t last) {
    parts[size_t(chunk)] = kernels<T>().loss(one.side, first, last);
  });
  call.output<T>(0, "loss", {})[0] = T(total(parts));
}

template <typename T> Missing<T> missing(Operands& operands, int64_t columns) {
  const Axis axis("columns", columns);
  auto gram = operands.next<T>("gram", {axis, axis});
  auto target = operands.next<T>("target", {axis});
  auto sum = operands.next<T>("sum", {axis});
  return {gram.data, target.data, sum.data};
}

template <typename T> T* rows_out(const Call& call, const OneSide<T>& one) {
  const Axes axes = {Axis("rows", one.own.rows), Axis("columns", one.own.columns)};
  return call.output<T>(0, "rows", axes).data;
}

template <typename T> void solve_of(Call& call) {
  call.expect(21, 2);
  Operands operands(call);
  OneSide<T> one(operands, call);
  const Missing<T> all = missing<T>(operands, one.own.columns);
  T* const rows = rows_out(call, one);
  by_chunk(call, one.rows, one.side, [&](int64_t, int64_t first, int64_t last) {
    kernels<T>().solve(one.side, all, first, last, rows);
  });
}

template <typename T> void approach_of(Call& call) {
  call.expect(21, 3);
  Operands operands(call);
  OneSide<T> one(operands, call, 2);
  const Missing<T> all = missing<T>(operands, one.own.columns);
  T* const rows = rows_out(call, one);
  const int64_t steps = call.attribute("steps");
  std::vector<double> parts(size_t(one.rows.chunks()));
  by_chunk(call, one.rows, one.side, [&](int64_t chunk, int64_t first, int64_t last) {
    parts[size_t(chunk)] = kernels<T>().approach(one.side, all, steps, first, last, rows);
  });
  call.output<T>(1, "loss", {})[0] = T(total(parts));
}

template <typename T> void draw_of(Call& call) {
  call.expect(23, 2);
  Operands operands(call);
  OneSide<T> one(operands, call);
  const int64_t rows = one.own.rows, columns = one.side.rank + one.side.has_bias();
  const Axis of_columns("columns and bias", columns), of_rows("rows", rows);
  Prior<T> prior{};
  prior.precision = operands.next<T>("precision", {of_columns, of_columns}).data;
  prior.linear = operands.next<T>("linear", {of_rows, of_columns}).data;
  prior.scale = operands.next<T>("scale", {of_rows}).data;
  prior.of_other = operands.next<T>("of_other", {Axis("other rows", one.other.rows)}).data;
  prior.noise = operands.next<T>("noise", {of_rows, of_columns}).data;
  prior.columns = columns;
  T* const drawn = rows_out(call, one);
  by_chunk(call, one.rows, one.side, [&](int64_t, int64_t first, int64_t last) {
    kernels<T>().draw(one.side, prior, first, last, drawn);
  });
}

template <typename T> void sums_of(Call& call) {
  call.expect(8, 1);
  Operands operands(call);
  auto other = table<T>(operands, "rows of the other side");
  const int64_t ends = call.input<int32_t>(1, "start", {Axis("ends")}).size;
  if (ends < 1) throw Refusal("start: expected an end at least");
  Rows<T> rows(operands, ends - 1);
  const int32_t fold = operands.scalar<int32_t>("lane's fold");
  Side<T> side{};
  side.ratings = rows.ratings;
  side.other_rows = other.rows;
  auto found = call.output<T>(0, "sums", {Axis("rows", ends - 1), Axis("columns", other.columns)});
  by_chunk(call, rows, side, [&](int64_t, int64_t first, int64_t last) {
    kernels<T>().sums(rows.ratings, fold, other, first, last, found.data);
  });
}

template <typename T> void errors_of(Call& call) {
  call.expect(9, 1);
  Operands operands(call);
  Scored<T> scored;
  scored.user = table<T>(operands, "user");
  scored.item = table<T>(operands, "item", Axis("columns", scored.user.columns));
  scored.rank = rank_of(call, scored.user.columns);
  auto user_of = operands.next<int32_t>("user of each rating", {Axis("ratings")});
  const int64_t count = user_of.size;
  const Axes axes = {Axis("ratings", count)};
  auto item_of = operands.next<int32_t>("item of each rating", axes);
  scored.user_of = user_of.data;
  scored.item_of = item_of.data;
  scored.value = operands.next<T>("value", axes).data;
  scored.weight = operands.next<T>("weight", axes).data;
  scored.fold = operands.next<int32_t>("fold", axes).data;
  scored.held_out = operands.scalar<int32_t>("lane's fold");
  auto scalars = operands.next<T>("centre, low and high", {Axis("scalars", 3)});
  scored.centre = scalars[0];
  scored.low = scalars[1];
  scored.high = scalars[2];
  check_indices(user_of, scored.user.rows, "user of each rating");
  check_indices(item_of, scored.item.rows, "item of each rating");
  constexpr int64_t CHUNK = 8192;
  const int64_t chunks = (count + CHUNK - 1) / CHUNK;
  std::vector<std::pair<ErrorSums, ErrorSums>> parts(static_cast<size_t>(chunks));
  parallel(call, call.attribute("threads"), chunks, [&](int64_t chunk) {
    const int64_t first = chunk * CHUNK, last = first + CHUNK < count ? first + CHUNK : count;
    parts[size_t(chunk)] = kernels<T>().errors(scored, first, last);
  });
  double sums[6] = {};
  for (const auto& [train, held_out] : parts) {
    const double of_part[] = {train.squares,    train.absolutes,    train.weights,
                              held_out.squares, held_out.absolutes, held_out.weights};
    for (int i = 0; i < 6; i++) sums[i] += of_part[i];
  }
  auto out = call.output<T>(0, "sums", {Axis("parts", 2), Axis("sums", 3)});
  for (int i = 0; i < 6; i++) out[i] = T(sums[i]);
}

// By the type of the first operand.
template <void (*OF_DOUBLES)(Call&), void (*OF_FLOATS)(Call&)> void by_type(Call& call) {
  call.input_type(0) == ffi::ElementType::float64 ? OF_DOUBLES(call) : OF_FLOATS(call);
}

constexpr ffi::NamedHandler HANDLERS[] = {
    {"mfjax_gradient", ffi::entry<by_type<gradient_of<double>, gradient_of<float>>>},
    {"mfjax_loss", ffi::entry<by_type<loss_of<double>, loss_of<float>>>},
    {"mfjax_solve", ffi::entry<by_type<solve_of<double>, solve_of<float>>>},
    {"mfjax_approach", ffi::entry<by_type<approach_of<double>, approach_of<float>>>},
    {"mfjax_draw", ffi::entry<by_type<draw_of<double>, draw_of<float>>>},
    {"mfjax_sums", ffi::entry<by_type<sums_of<double>, sums_of<float>>>},
    {"mfjax_errors", ffi::entry<by_type<errors_of<double>, errors_of<float>>>},
    {"mfjax_epoch", ffi::entry<epoch>},
    {"mfjax_pairs", ffi::entry<pairs>},
    {nullptr, nullptr},
};

}  // namespace
}  // namespace mfjax

extern "C" MFJAX_EXPORT const mfjax::ffi::NamedHandler* mfjax_handlers() { return mfjax::HANDLERS; }
