// The part of XLA's typed FFI that is used here, declared anew.
//
// XLA calls a compiled function through a C ABI: one struct, the call frame, holds the operands, the
// results, the attributes and a table of functions to call back. Every struct begins with its size,
// and later versions only append, so that what is declared here stays where it is. The names are
// ours; tests/contracts/test_ffi.py holds every size, offset and value against the header of the
// jaxlib that is installed. Checked with jaxlib 0.8.0 (API 0.1) and 0.10.2 (API 0.3).
#pragma once

#include <cstddef>
#include <cstdint>

namespace mfjax::ffi {

// The oldest version that all of these jaxlibs accept; 0.0 is refused from 0.10 on.
constexpr int API_MAJOR = 0;
constexpr int API_MINOR = 1;

struct Context;  // of one call; XLA's own
struct Error;    // XLA's own; null is success

// Extensions: the first of a call frame may ask for the version instead of a result.

enum class ExtensionType : uint32_t { metadata = 1 };

struct Extension {
  size_t size;
  ExtensionType type;
  Extension* next;
};

struct Header {  // of every struct that crosses the border
  size_t size;
  Extension* extensions;
};

struct Version {
  Header header;
  int major_number;
  int minor_number;
};

struct Metadata {
  size_t size;
  Version version;
  uint32_t traits;
  int64_t state_type;
};

struct MetadataExtension {
  Extension base;
  Metadata* metadata;
};

// Operands

enum class ElementType : uint32_t {
  boolean = 1,
  int8 = 2,
  int16 = 3,
  int32 = 4,
  int64 = 5,
  uint8 = 6,
  uint16 = 7,
  uint32 = 8,
  uint64 = 9,
  float16 = 10,
  float32 = 11,
  float64 = 12,
  bfloat16 = 16,
};

struct Array {
  Header header;
  ElementType type;
  void* data;
  int64_t rank;
  int64_t* shape;
};

enum class OperandType : uint32_t { array = 1 };

struct Operands {  // and results, which are declared alike
  Header header;
  int64_t size;
  OperandType* types;
  void** values;
};

enum class AttributeType : uint32_t { array = 1, dictionary = 2, scalar = 3, string = 4 };

struct Text {
  const char* begin;
  size_t size;
};

struct Scalar {
  ElementType type;
  void* value;
};

struct Attributes {
  Header header;
  int64_t size;
  AttributeType* types;
  Text** names;
  void** values;
};

// Functions of XLA

enum class Code : uint32_t { invalid_argument = 3, resource_exhausted = 8, internal = 13 };

struct CreateError {
  Header header;
  const char* message;
  Code code;
};

struct DestroyError {
  Header header;
  Error* error;
};

using Task = void(void* data);

struct Schedule {
  Header header;
  Context* context;
  Task* task;
  void* data;
};

struct CountThreads {
  Header header;
  Context* context;
  int64_t* threads;
};

struct Functions {
  using Unused = void();

  Header header;
  Version version;
  const void* internal;
  Error* (*create_error)(CreateError*);
  Unused* error_message;
  void (*destroy_error)(DestroyError*);
  Unused* register_handler;
  Unused* stream;
  Unused* register_type;
  Unused* context;
  Unused* set_state;
  Unused* state;
  Unused* allocate;
  Unused* release;
  Error* (*schedule)(Schedule*);
  Error* (*count_threads)(CountThreads*);
};

// The call

enum class Stage : uint32_t { instantiate = 0, prepare = 1, initialize = 2, execute = 3 };

struct CallFrame {
  Header header;
  const Functions* functions;
  Context* context;
  Stage stage;
  Operands inputs;
  Operands outputs;
  Attributes attributes;
};

using Handler = Error*(CallFrame*);

// What the library exports: its handlers by name, and a last one that has none.
struct NamedHandler {
  const char* name;
  Handler* handler;
};

}  // namespace mfjax::ffi
