// Calls the handlers with what record.cpp wrote, without Python or XLA, so that a sanitizer sees all
// that runs: on one thread and on several, in place and not, and with operands that do not fit.
//
//   replay [--threads] FILE …      --threads: no operands that do not fit
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <thread>

#include "calls.h"

extern "C" {
const mfjax::ffi::NamedHandler* mfjax_handlers();
// of the sanitizers, where there is one; NOLINTNEXTLINE(bugprone-reserved-identifier)
void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));
}

namespace mfjax::ffi {

struct Error {
  std::string message;
};

namespace {

// XLA: errors, and a pool that runs tasks at once, on threads, after the call, or not at all

enum class Pool { here, threads, late, none };

struct Scheduled {
  Pool pool;
  std::vector<std::thread> threads;
  std::vector<std::function<void()>> late;

  void end() {
    for (auto& thread : threads) thread.join();
    for (auto& task : late) task();
  }
};

Scheduled& scheduled(Context* context) { return *reinterpret_cast<Scheduled*>(context); }

Error* create_error(CreateError* arguments) { return new Error{arguments->message}; }

void destroy_error(DestroyError* arguments) { delete arguments->error; }

Error* schedule(Schedule* arguments) {
  Scheduled& all = scheduled(arguments->context);
  Task* const task = arguments->task;
  void* const data = arguments->data;
  if (all.pool == Pool::none) return new Error{"no pool"};
  if (all.pool == Pool::here) task(data);
  if (all.pool == Pool::threads) all.threads.emplace_back(task, data);
  if (all.pool == Pool::late) all.late.emplace_back([task, data] { task(data); });
  return nullptr;
}

Error* count_threads(CountThreads* arguments) {
  *arguments->threads = 4;
  return nullptr;
}

Functions functions() {
  Functions functions{};
  functions.header.size = sizeof functions;
  functions.create_error = create_error;
  functions.destroy_error = destroy_error;
  functions.schedule = schedule;
  functions.count_threads = count_threads;
  return functions;
}

// One run of a call

// Memory of exactly these bytes, so that one byte beyond is not ours.
struct Memory {
  explicit Memory(int64_t bytes, int fill) : bytes(bytes) {
    if (posix_memalign(&data, 64, size_t(bytes))) throw std::bad_alloc();
    std::memset(data, fill, size_t(bytes));
  }
  Memory(const Memory&) = delete;
  ~Memory() { std::free(data); }

  void* data = nullptr;
  int64_t bytes;
};

struct Outcome {
  std::string error;  // empty is success
  std::vector<std::string> outputs;

  bool operator==(const Outcome& other) const {
    return error.empty() == other.error.empty() && outputs == other.outputs;
  }
};

struct Manner {
  int64_t threads;
  Pool pool;
  int fill;  // of outputs: what is not written is found out
  bool in_place;
};

// The results of a call. After them stands room for temporaries, of which nothing is asked.
size_t results_of(const Recorded& call) {
  static const std::map<std::string, size_t> BEFORE_ROOM = {
      {"mfjax_gradient", 3}, {"mfjax_loss", 1}, {"mfjax_solve", 1},
      {"mfjax_approach", 2}, {"mfjax_draw", 1}, {"mfjax_pairs", 4}};
  const size_t all = call.outputs.size();
  if (call.handler == "mfjax_epoch") return (all + 2) / 2;  // a room for each table
  const auto found = BEFORE_ROOM.find(call.handler);
  return found == BEFORE_ROOM.end() ? all : std::min(found->second, all);
}

class Run {
 public:
  Run(const Recorded& call, const Manner& manner) : call_(call), manner_(manner) {
    for (const auto& input : call.inputs) {
      memory_.push_back(std::make_unique<Memory>(input.bytes(), 0));
      std::memcpy(memory_.back()->data, input.data.data(),
                  std::min(input.data.size(), size_t(memory_.back()->bytes)));
      add(inputs_, input, *memory_.back());
    }
    for (const auto& output : call.outputs) {
      const auto input = size_t(output.alias);  // that of none is beyond all
      const bool shares = manner.in_place && input < call.inputs.size() &&
                          call.inputs[input].bytes() == output.bytes();
      if (!shares) memory_.push_back(std::make_unique<Memory>(output.bytes(), manner.fill));
      add(outputs_, output, shares ? *memory_[input] : *memory_.back());
    }
    for (const auto& attribute : call.attributes) {
      const bool is_threads = attribute.name == "threads" && manner.threads > 0;
      integers_.push_back(is_threads ? manner.threads : attribute.value);
      texts_.push_back({attribute.name.data(), attribute.name.size()});
    }
  }

  Outcome outcome(Handler* handler) {
    static const Functions of_xla = functions();
    Scheduled tasks{manner_.pool, {}, {}};
    CallFrame frame{};
    frame.header.size = sizeof frame;
    frame.functions = &of_xla;
    frame.context = reinterpret_cast<Context*>(&tasks);
    frame.stage = Stage::execute;
    std::vector<OperandType> types(inputs_.size() + outputs_.size(), OperandType::array);
    std::vector<void*> in = addresses(inputs_), out = addresses(outputs_);
    frame.inputs = {{}, int64_t(in.size()), types.data(), in.data()};
    frame.outputs = {{}, int64_t(out.size()), types.data(), out.data()};
    std::vector<AttributeType> scalar(integers_.size(), AttributeType::scalar);
    std::vector<Scalar> scalars;
    for (int64_t& integer : integers_) scalars.push_back({ElementType::int64, &integer});
    std::vector<void*> values = addresses(scalars);
    std::vector<Text*> names;
    for (Text& text : texts_) names.push_back(&text);
    frame.attributes = {{}, int64_t(names.size()), scalar.data(), names.data(), values.data()};
    const std::unique_ptr<Error> error(handler(&frame));
    tasks.end();
    Outcome outcome;
    if (error) outcome.error = error->message;
    for (size_t i = 0; i < results_of(call_) && !error; i++)
      outcome.outputs.emplace_back(static_cast<const char*>(outputs_[i].data),
                                   size_t(call_.outputs[i].bytes()));
    return outcome;
  }

 private:
  static void add(std::vector<Array>& arrays, const Recorded::Value& value, const Memory& memory) {
    auto* shape = const_cast<int64_t*>(value.shape.data());
    arrays.push_back({{}, value.type, memory.data, int64_t(value.shape.size()), shape});
  }

  template <typename T> static std::vector<void*> addresses(std::vector<T>& values) {
    std::vector<void*> addresses;
    for (T& value : values) addresses.push_back(&value);
    return addresses;
  }

  const Recorded& call_;
  Manner manner_;
  std::vector<std::unique_ptr<Memory>> memory_;
  std::vector<Array> inputs_, outputs_;
  std::vector<int64_t> integers_;
  std::vector<Text> texts_;
};

// What is tried of each call

constexpr Manner PLAIN{1, Pool::none, 0, true};
constexpr Manner HERE{0, Pool::here, 0, true};  // as many threads as it was recorded with

std::string in_progress;

void say_in_progress() { std::fprintf(stderr, "in %s\n", in_progress.c_str()); }

class Trial {
 public:
  Trial(Handler* handler, Recorded call) : handler_(handler), call_(std::move(call)) {}

  void in_every_manner() {
    const Outcome plain = run(call_, PLAIN, "as it was recorded");
    const Manner manners[] = {
        {1, Pool::none, 0xAB, false}, {2, Pool::here, 0xAB, true}, {3, Pool::threads, 0xAB, true},
        {8, Pool::threads, 0, false}, {4, Pool::late, 0xAB, true}, {4, Pool::none, 0, true},
    };
    for (const Manner& manner : manners) {
      const std::string name = std::to_string(manner.threads) + " threads of pool " +
                               std::to_string(int(manner.pool)) +
                               (manner.in_place ? "" : ", not in place");
      if (!(run(call_, manner, name) == plain)) fail("other results");
    }
  }

  void with_operands_that_do_not_fit() {
    for (size_t i = 0; i < call_.inputs.size(); i++) {
      of_another_type(i);
      of_another_shape(i);
      with_another_index(i);
    }
    for (size_t i = 0; i < call_.attributes.size(); i++) of_another_attribute(i);
    Recorded fewer = call_;
    fewer.inputs.pop_back();
    refused(fewer, "an input less");
  }

  int runs = 0;
  int failures = 0;

 private:
  void of_another_type(size_t i) {
    for (auto type : {ElementType::int8, ElementType::float16, ElementType::uint64}) {
      Recorded other = call_;
      other.inputs[i].type = type;
      refused(other, input(i) + name_of(type));
    }
  }

  void of_another_shape(size_t i) {
    Recorded deeper = call_;
    deeper.inputs[i].shape.push_back(1);
    refused(deeper, input(i) + "another rank");
    for (size_t axis = 0; axis < call_.inputs[i].shape.size(); axis++)
      for (int64_t by : {-1, 1}) {
        Recorded other = call_;
        int64_t& length = other.inputs[i].shape[axis];
        length += by;
        if (length >= 0) run(other, HERE, input(i) + "length " + std::to_string(length));
      }
  }

  // Wherever it stands, an index out of range is refused or not read: the sanitizer sees which.
  void with_another_index(size_t i) {
    const size_t size = call_.inputs[i].data.size() / sizeof(int32_t);
    if (call_.inputs[i].type != ElementType::int32) return;
    for (size_t at : {size_t(0), size / 2, size - 1})
      for (int32_t index : {-1, 1 << 20, std::numeric_limits<int32_t>::max(),
                            std::numeric_limits<int32_t>::min()}) {
        if (at >= size) continue;
        Recorded other = call_;
        std::memcpy(&other.inputs[i].data[at * sizeof index], &index, sizeof index);
        run(other, HERE, input(i) + std::to_string(index) + " at " + std::to_string(at));
      }
  }

  void of_another_attribute(size_t i) {
    const std::string& name = call_.attributes[i].name;
    for (int64_t by : {-1, 1}) {
      Recorded other = call_;
      const int64_t value = other.attributes[i].value += by;
      run(other, HERE, name + "=" + std::to_string(value));
    }
    Recorded without = call_;
    without.attributes.erase(without.attributes.begin() + int64_t(i));
    run(without, HERE, "no " + name);
  }

  static std::string input(size_t i) { return "input " + std::to_string(i) + ": "; }

  Outcome run(const Recorded& call, const Manner& manner, const std::string& name) {
    runs++;
    in_progress = call_.handler + ", " + name;
    return Run(call, manner).outcome(handler_);
  }

  void refused(const Recorded& call, const std::string& name) {
    if (run(call, PLAIN, name).error.empty()) fail("not refused");
  }

  void fail(const std::string& what) {
    failures++;
    std::printf("%s: %s\n", in_progress.c_str(), what.c_str());
  }

  Handler* handler_;
  Recorded call_;
};

Handler* handler_of(const std::string& name) {
  for (const NamedHandler* named = mfjax_handlers(); named->name; named++)
    if (named->name == name) return named->handler;
  throw std::runtime_error("no handler " + name);
}

int replayed(const std::vector<std::string>& files, bool only_threads) {
  int calls = 0, runs = 0, failures = 0;
  for (const std::string& name : files) {
    std::ifstream file(name, std::ios::binary);
    for (Reader reader(file); !reader.at_end(); calls++) {
      Recorded call = reader.call();
      Trial trial(handler_of(call.handler), call);
      trial.in_every_manner();
      if (!only_threads) trial.with_operands_that_do_not_fit();
      runs += trial.runs;
      failures += trial.failures;
    }
  }
  std::printf("%d calls, %d runs, %d failures\n", calls, runs, failures);
  return calls > 0 && failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace mfjax::ffi

int main(int count, char** arguments) try {
  std::vector<std::string> files(arguments + 1, arguments + count);
  const bool only_threads = !files.empty() && files[0] == "--threads";
  if (only_threads) files.erase(files.begin());
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(mfjax::ffi::say_in_progress);
  return mfjax::ffi::replayed(files, only_threads);
} catch (const std::exception& error) {
  std::printf("%s\n", error.what());
  return 1;
}
