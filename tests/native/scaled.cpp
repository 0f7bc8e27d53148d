// A library of two small handlers, to try `call.h` and the loader with.
#include "call.h"

namespace mfjax::ffi {
namespace {

// out = factor · rows, a chunk a row. A factor of 13 is refused by the chunk of the last row.
void scaled(Call& call) {
  call.expect(3, 1);
  auto rows = call.input<float>(0, "rows", {"rows", "columns"});
  auto factor = call.input<float>(1, "factor", {});
  auto order = call.input<int32_t>(2, "order", {{"rows", rows.shape[0]}});
  auto out = call.output<float>(0, "out", {{"rows", rows.shape[0]}, {"columns", rows.shape[1]}});
  check_indices(order, rows.shape[0], "order");
  const int64_t columns = rows.shape[1];
  parallel(call, call.attribute("threads"), rows.shape[0], [&](int64_t chunk) {
    const int64_t row = order[chunk];
    if (factor[0] == 13 && row == rows.shape[0] - 1) throw Refusal("a factor of 13");
    for (int64_t c = row * columns; c < (row + 1) * columns; c++) out[c] = rows[c] * factor[0];
  });
}

// table + 1, in place; the second result is 1 where it was copied.
void raised(Call& call) {
  const void* given = call.input<float>(0, "table", {"rows"}).data;
  auto table = call.updated<float>(0, 0, "table", {"rows"});
  call.output<int32_t>(1, "copied", {})[0] = given != table.data;
  for (int64_t i = 0; i < table.size; i++) table[i] += 1;
}

constexpr NamedHandler HANDLERS[] = {
    {"mfjax_scaled", entry<scaled>},
    {"mfjax_raised", entry<raised>},
    {nullptr, nullptr},
};

}  // namespace
}  // namespace mfjax::ffi

extern "C" {
MFJAX_EXPORT const mfjax::ffi::NamedHandler* mfjax_handlers() { return mfjax::ffi::HANDLERS; }
MFJAX_EXPORT const char* mfjax_isa() { return "base"; }
}
