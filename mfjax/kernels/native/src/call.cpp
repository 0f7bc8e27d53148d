// What `Call` reads of a call frame, and the errors of XLA's that it returns.
#include "call.h"

#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace mfjax::ffi {
namespace {

template <typename T> T sized() {
  T arguments{};
  arguments.header.size = sizeof(T);
  return arguments;
}

std::string listed(const std::vector<std::string>& axes) {
  std::string text = "[";
  for (const std::string& axis : axes) text.append(text.size() > 1 ? ", " : "").append(axis);
  return text.append("]");
}

std::string shape_of(const Axes& expected) {
  std::vector<std::string> axes;
  for (const Axis& axis : expected) {
    axes.emplace_back(axis.name);
    if (axis.length != Axis::ANY) axes.back().append("=").append(std::to_string(axis.length));
  }
  return listed(axes);
}

std::string shape_of(const Array& array) {
  std::vector<std::string> axes;
  for (int64_t i = 0; i < array.rank; i++) axes.push_back(std::to_string(array.shape[i]));
  return listed(axes);
}

bool fits(const Array& array, const Axes& axes) {
  if (array.rank != static_cast<int64_t>(axes.size())) return false;
  const int64_t* length = array.shape;
  for (const Axis& axis : axes) {
    if (axis.length != Axis::ANY && axis.length != *length) return false;
    length++;
  }
  return true;
}

}  // namespace

std::string name_of(ElementType type) {
  switch (type) {
    case ElementType::boolean:
      return "bool";
    case ElementType::int8:
      return "int8";
    case ElementType::int16:
      return "int16";
    case ElementType::int32:
      return "int32";
    case ElementType::int64:
      return "int64";
    case ElementType::uint8:
      return "uint8";
    case ElementType::uint16:
      return "uint16";
    case ElementType::uint32:
      return "uint32";
    case ElementType::uint64:
      return "uint64";
    case ElementType::float16:
      return "float16";
    case ElementType::float32:
      return "float32";
    case ElementType::float64:
      return "float64";
    case ElementType::bfloat16:
      return "bfloat16";
  }
  return "type " + std::to_string(static_cast<uint32_t>(type));
}

bool are_indices(const int32_t* index, int64_t count, int64_t limit) {
  const int64_t most = std::numeric_limits<int32_t>::max();
  const uint32_t last = static_cast<uint32_t>(limit <= most ? limit - 1 : most);
  uint32_t signs = 0;  // of each and of what it is short of the last; 16 bytes at a time, no exit
  for (int64_t i = 0; i < count; i++) {
    const uint32_t one = static_cast<uint32_t>(index[i]);
    signs |= one | (last - one);
  }
  return signs >> 31 == 0;
}

void check_indices(const Buffer<const int32_t>& index, int64_t limit, const char* name) {
  if (are_indices(index.data, index.size, limit)) return;
  int64_t first = 0;
  while (index[first] >= 0 && index[first] < limit) first++;
  throw Refusal(std::string(name) + ": expected indices of 0 to " + std::to_string(limit - 1) +
                ", got " + std::to_string(index[first]) + " at " + std::to_string(first));
}

void Call::expect(int64_t inputs, int64_t outputs) const {
  if (frame_.inputs.size == inputs && frame_.outputs.size == outputs) return;
  throw Refusal("expected " + std::to_string(inputs) + " arguments and " + std::to_string(outputs) +
                " results, got " + std::to_string(frame_.inputs.size) + " and " +
                std::to_string(frame_.outputs.size));
}

const Array& Call::array(const Operands& operands, int64_t i, const char* kind) {
  const bool found = i >= 0 && i < operands.size && operands.types[i] == OperandType::array;
  if (!found) throw Refusal("no " + std::string(kind) + " " + std::to_string(i));
  return *static_cast<const Array*>(operands.values[i]);
}

const Array& Call::checked(const Operands& operands, int64_t i, const char* kind, const char* name,
                           ElementType type, const Axes& axes) {
  const Array& found = array(operands, i, kind);
  if (found.type == type && fits(found, axes)) return found;
  throw Refusal(std::string(kind) + " " + std::to_string(i) + " (" + name + "): expected " +
                name_of(type) + " " + shape_of(axes) + ", got " + name_of(found.type) + " " +
                shape_of(found));
}

int64_t Call::attribute(const char* name) const {
  const Attributes& attributes = frame_.attributes;
  for (int64_t i = 0; i < attributes.size; i++) {
    const Text& text = *attributes.names[i];
    if (std::string_view(text.begin, text.size) != name) continue;
    if (attributes.types[i] != AttributeType::scalar) break;
    const Scalar& scalar = *static_cast<const Scalar*>(attributes.values[i]);
    if (scalar.type != ElementType::int64) break;
    return *static_cast<const int64_t*>(scalar.value);
  }
  throw Refusal("expected an attribute " + std::string(name) + " of int64");
}

int64_t Call::pool_threads() const {
  int64_t threads = 0;
  auto arguments = sized<CountThreads>();
  arguments.context = frame_.context;
  arguments.threads = &threads;
  Error* const failure = frame_.functions->count_threads(&arguments);
  if (failure != nullptr) destroy(failure);
  return failure == nullptr ? threads : 0;
}

bool Call::schedule(Task* task, void* data) const {
  auto arguments = sized<Schedule>();
  arguments.context = frame_.context;
  arguments.task = task;
  arguments.data = data;
  Error* const failure = frame_.functions->schedule(&arguments);
  if (failure != nullptr) destroy(failure);
  return failure == nullptr;
}

void Call::destroy(Error* failure) const {
  auto arguments = sized<DestroyError>();
  arguments.error = failure;
  frame_.functions->destroy_error(&arguments);
}

Error* error(const CallFrame& frame, Code code, const char* message) {
  auto arguments = sized<CreateError>();
  arguments.message = message;
  arguments.code = code;
  return frame.functions->create_error(&arguments);
}

bool answered(CallFrame& frame) {
  const Extension* const first = frame.header.extensions;
  if (first == nullptr || first->type != ExtensionType::metadata)
    return frame.stage != Stage::execute;
  Metadata& metadata = *reinterpret_cast<const MetadataExtension*>(first)->metadata;
  metadata.version = sized<Version>();
  metadata.version.major_number = API_MAJOR;
  metadata.version.minor_number = API_MINOR;
  metadata.traits = 0;
  metadata.state_type = 0;
  return true;
}

}  // namespace mfjax::ffi
