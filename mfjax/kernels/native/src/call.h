// What a handler sees of its call: views of the operands, checked, and XLA's threads.
//
//   void scaled(Call& call) {
//     call.expect(2, 1);
//     auto rows = call.input<float>(0, "rows", {"rows", "columns"});
//     auto factor = call.input<float>(1, "factor", {});
//     auto out = call.output<float>(0, "out", {{"rows", rows.shape[0]}, {"columns", rows.shape[1]}});
//     const int64_t columns = rows.shape[1];
//     parallel(call, call.attribute("threads"), rows.shape[0], [&](int64_t row) {
//       for (int64_t c = row * columns; c < (row + 1) * columns; c++)
//         out[c] = rows[c] * factor[0];
//     });
//   }
//
//   constexpr NamedHandler HANDLERS[] = {{"mfjax_scaled", entry<scaled>}, {nullptr, nullptr}};
//   extern "C" MFJAX_EXPORT const NamedHandler* mfjax_handlers() { return HANDLERS; }
//
// What is refused is thrown as a Refusal, which `entry` returns as an error of XLA's, and which Python
// raises as a JaxRuntimeError with the message. Nothing thrown leaves `entry`.
#pragma once

#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "ffi.h"

#define MFJAX_EXPORT __attribute__((visibility("default")))

namespace mfjax::ffi {

// An operand that a kernel cannot take; the message says what was expected and what was given.
struct Refusal : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// Element types

template <typename T> struct ElementOf;
template <> struct ElementOf<float> {
  static constexpr ElementType type = ElementType::float32;
};
template <> struct ElementOf<double> {
  static constexpr ElementType type = ElementType::float64;
};
template <> struct ElementOf<int32_t> {
  static constexpr ElementType type = ElementType::int32;
};
template <> struct ElementOf<int64_t> {
  static constexpr ElementType type = ElementType::int64;
};
template <> struct ElementOf<uint32_t> {
  static constexpr ElementType type = ElementType::uint32;
};

std::string name_of(ElementType type);

// Shapes

// One axis that is expected: its name for the message, and its length where that is known.
struct Axis {
  static constexpr int64_t ANY = -1;

  Axis(const char* name, int64_t length = ANY) : name(name), length(length) {}

  const char* name;
  int64_t length;
};

using Axes = std::vector<Axis>;

template <typename T> struct Buffer {
  T* data;
  const int64_t* shape;
  int64_t rank;
  int64_t size;

  T& operator[](int64_t i) const { return data[i]; }
};

// Whether all are of 0 … limit - 1; and what refuses one that is not.
bool are_indices(const int32_t* index, int64_t count, int64_t limit);
void check_indices(const Buffer<const int32_t>& index, int64_t limit, const char* name);

// The call

class Call {
 public:
  explicit Call(CallFrame& frame) : frame_(frame) {}

  // Refuses another number of operands or results.
  void expect(int64_t inputs, int64_t outputs) const;

  ElementType input_type(int64_t i) const { return array(frame_.inputs, i, "argument").type; }

  template <typename T> Buffer<const T> input(int64_t i, const char* name, const Axes& axes) const {
    return view<const T>(frame_.inputs, i, "argument", name, axes);
  }

  template <typename T> Buffer<T> output(int64_t i, const char* name, const Axes& axes) const {
    return view<T>(frame_.outputs, i, "result", name, axes);
  }

  // Output `o`, which holds input `i`: in place where XLA gave both the same memory, else a copy.
  template <typename T>
  Buffer<T> updated(int64_t i, int64_t o, const char* name, const Axes& axes) const {
    const Buffer<const T> from = input<T>(i, name, axes);
    const Buffer<T> to = output<T>(o, name, axes);
    if (from.size != to.size) throw Refusal(std::string(name) + ": changes its size in place");
    if (from.data != to.data && from.size > 0)
      std::memcpy(to.data, from.data, sizeof(T) * static_cast<size_t>(from.size));
    return to;
  }

  // A scalar of int64.
  int64_t attribute(const char* name) const;

  // Of XLA's pool; 0 where there is none.
  int64_t pool_threads() const;

  // False where XLA does not take the task, which then never runs.
  bool schedule(Task* task, void* data) const;

 private:
  void destroy(Error* failure) const;

  static const Array& array(const Operands& operands, int64_t i, const char* kind);

  static const Array& checked(const Operands& operands, int64_t i, const char* kind,
                              const char* name, ElementType type, const Axes& axes);

  template <typename T>
  static Buffer<T> view(const Operands& operands, int64_t i, const char* kind, const char* name,
                        const Axes& axes) {
    constexpr ElementType type = ElementOf<std::remove_const_t<T>>::type;
    const Array& found = checked(operands, i, kind, name, type, axes);
    int64_t size = 1;
    for (int64_t axis = 0; axis < found.rank; axis++) size *= found.shape[axis];
    return {static_cast<T*>(found.data), found.shape, found.rank, size};
  }

  CallFrame& frame_;
};

// Threads

class Work {  // what `parallel` runs: chunk by chunk
 public:
  virtual ~Work() = default;
  virtual void chunk(int64_t i) const = 0;
};

void parallel(const Call& call, int64_t threads, int64_t turns, int64_t chunks, const Work& work);

// function(0) … function(turns · chunks - 1), each once, on up to `threads` threads of XLA's: those of a turn
// side by side, the next turn's after all of them.
//
// What a chunk computes must not depend on who computes it. The calling thread takes chunks too and
// waits for those alone that another has begun, so that a pool that is busy or absent is no harm.
template <typename F>
void parallel(const Call& call, int64_t threads, int64_t turns, int64_t chunks, const F& function) {
  struct Of final : Work {
    explicit Of(const F& function) : function(function) {}
    void chunk(int64_t i) const override { function(i); }
    const F& function;
  };
  parallel(call, threads, turns, chunks, static_cast<const Work&>(Of(function)));
}

template <typename F>
void parallel(const Call& call, int64_t threads, int64_t chunks, const F& function) {
  parallel(call, threads, 1, chunks, function);
}

// The border

Error* error(const CallFrame& frame, Code code, const char* message);

// True where the call asked what the handler is, or is not of the stage that computes.
bool answered(CallFrame& frame);

template <void (*function)(Call&)> Error* entry(CallFrame* frame) noexcept {
  if (answered(*frame)) return nullptr;
  try {
    Call call(*frame);
    function(call);
    return nullptr;
  } catch (const Refusal& refusal) {
    return error(*frame, Code::invalid_argument, refusal.what());
  } catch (const std::bad_alloc&) {
    return error(*frame, Code::resource_exhausted, "no memory for the temporaries of a kernel");
  } catch (const std::exception& failure) {
    return error(*frame, Code::internal, failure.what());
  } catch (...) {
    return error(*frame, Code::internal, "unknown failure of a kernel");
  }
}

}  // namespace mfjax::ffi
