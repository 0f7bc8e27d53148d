// A library in place of the compiled one (MFJAX_RECORDED), which it calls: of each call that has
// other shapes, types or attributes than those before, it writes the operands to MFJAX_CALLS.<pid>.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <mutex>
#include <set>
#include <sstream>
#include <utility>

#include "calls.h"

namespace mfjax::ffi {
namespace {

constexpr int64_t LARGEST = 1 << 22;  // bytes of operands: what is larger is not odd

template <typename F> F of_library(const char* name) {
  static void* const library = dlopen(std::getenv("MFJAX_RECORDED"), RTLD_NOW);
  if (!library) throw std::runtime_error(dlerror());
  return reinterpret_cast<F>(dlsym(library, name));
}

const NamedHandler* recorded() {
  static const auto handlers = of_library<const NamedHandler* (*)()>("mfjax_handlers")();
  return handlers;
}

Recorded::Value value_of(const Array& array, bool is_input) {
  Recorded::Value value{array.type, {array.shape, array.shape + array.rank}, "", -1};
  if (is_input && value.bytes() > 0)
    value.data.assign(static_cast<const char*>(array.data), size_t(value.bytes()));
  return value;
}

Recorded call_of(const CallFrame& frame, const char* name) {
  Recorded call{name, {}, {}, {}};
  auto at = [](const Operands& operands, int64_t i) -> const Array& {
    return *static_cast<const Array*>(operands.values[i]);
  };
  for (int64_t i = 0; i < frame.inputs.size; i++)
    call.inputs.push_back(value_of(at(frame.inputs, i), true));
  for (int64_t o = 0; o < frame.outputs.size; o++) {
    call.outputs.push_back(value_of(at(frame.outputs, o), false));
    for (int64_t i = 0; i < frame.inputs.size; i++)
      if (at(frame.inputs, i).data == at(frame.outputs, o).data && call.outputs.back().bytes() > 0)
        call.outputs.back().alias = i;
  }
  for (int64_t i = 0; i < frame.attributes.size; i++) {
    const Text& text = *frame.attributes.names[i];
    const Scalar& scalar = *static_cast<const Scalar*>(frame.attributes.values[i]);
    call.attributes.push_back(
        {std::string(text.begin, text.size), *static_cast<const int64_t*>(scalar.value)});
  }
  return call;
}

void record(const CallFrame& frame, const char* name) {
  static std::mutex mutex;
  static std::set<std::string> seen;
  static std::ofstream file(std::getenv("MFJAX_CALLS") + ("." + std::to_string(getpid())),
                            std::ios::binary);
  const Recorded call = call_of(frame, name);
  int64_t bytes = 0;
  for (const auto& input : call.inputs) bytes += input.bytes();
  std::ostringstream kind;
  Writer(kind).call(call, false);
  const std::lock_guard<std::mutex> lock(mutex);
  if (bytes > LARGEST || !seen.insert(kind.str()).second) return;
  Writer(file).call(call);
  file.flush();
}

template <size_t N> Error* handler(CallFrame* frame) {
  if (!frame->header.extensions && frame->stage == Stage::execute)
    record(*frame, recorded()[N].name);
  return recorded()[N].handler(frame);
}

constexpr size_t MOST = 16;

template <size_t... N> const NamedHandler* wrapped(std::index_sequence<N...>) {
  static NamedHandler handlers[MOST + 1] = {};
  constexpr Handler* by_number[] = {handler<N>...};
  for (size_t i = 0; recorded()[i].name; i++) {
    if (i == MOST) throw std::runtime_error("record.cpp: more handlers than MOST");
    handlers[i] = {recorded()[i].name, by_number[i]};
  }
  return handlers;
}

}  // namespace
}  // namespace mfjax::ffi

extern "C" {
MFJAX_EXPORT const mfjax::ffi::NamedHandler* mfjax_handlers() {
  return mfjax::ffi::wrapped(std::make_index_sequence<mfjax::ffi::MOST>());
}
MFJAX_EXPORT const char* mfjax_isa() {
  return mfjax::ffi::of_library<const char* (*)()>("mfjax_isa")();
}
MFJAX_EXPORT const char* mfjax_stamp() {
  return mfjax::ffi::of_library<const char* (*)()>("mfjax_stamp")();
}
}
