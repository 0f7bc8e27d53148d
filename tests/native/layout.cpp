// Our declarations of the typed FFI beside jaxlib's: compiled, not run.
#include <cstddef>
#include <type_traits>

#include "ffi.h"
#include "xla/ffi/api/c_api.h"

namespace ours = mfjax::ffi;

#define FIELD(mine, field, theirs, name)                                                           \
  static_assert(offsetof(ours::mine, field) == offsetof(theirs, name), #mine "." #field);          \
  static_assert(sizeof(ours::mine::field) == sizeof(theirs::name), #mine "." #field)
// a struct of XLA's says its size up to a last field, which ours must reach
#define REACHES(mine, theirs) static_assert(sizeof(ours::mine) >= theirs##_STRUCT_SIZE, #mine)
#define VALUE(mine, theirs)                                                                        \
  static_assert(static_cast<int>(ours::mine) == static_cast<int>(theirs), #mine)

static_assert(ours::API_MAJOR == XLA_FFI_API_MAJOR);
static_assert(ours::API_MINOR <= XLA_FFI_API_MINOR);

FIELD(Extension, size, XLA_FFI_Extension_Base, struct_size);
FIELD(Extension, type, XLA_FFI_Extension_Base, type);
FIELD(Extension, next, XLA_FFI_Extension_Base, next);
VALUE(ExtensionType::metadata, XLA_FFI_Extension_Metadata);

FIELD(Version, header.size, XLA_FFI_Api_Version, struct_size);
FIELD(Version, header.extensions, XLA_FFI_Api_Version, extension_start);
FIELD(Version, major_number, XLA_FFI_Api_Version, major_version);
FIELD(Version, minor_number, XLA_FFI_Api_Version, minor_version);
static_assert(sizeof(ours::Version) == sizeof(XLA_FFI_Api_Version));

FIELD(Metadata, size, XLA_FFI_Metadata, struct_size);
FIELD(Metadata, version, XLA_FFI_Metadata, api_version);
FIELD(Metadata, traits, XLA_FFI_Metadata, traits);
FIELD(Metadata, state_type, XLA_FFI_Metadata, state_type_id);
static_assert(sizeof(ours::Metadata) == sizeof(XLA_FFI_Metadata));
FIELD(MetadataExtension, base, XLA_FFI_Metadata_Extension, extension_base);
FIELD(MetadataExtension, metadata, XLA_FFI_Metadata_Extension, metadata);

VALUE(ElementType::boolean, XLA_FFI_DataType_PRED);
VALUE(ElementType::int8, XLA_FFI_DataType_S8);
VALUE(ElementType::int16, XLA_FFI_DataType_S16);
VALUE(ElementType::int32, XLA_FFI_DataType_S32);
VALUE(ElementType::int64, XLA_FFI_DataType_S64);
VALUE(ElementType::uint8, XLA_FFI_DataType_U8);
VALUE(ElementType::uint16, XLA_FFI_DataType_U16);
VALUE(ElementType::uint32, XLA_FFI_DataType_U32);
VALUE(ElementType::uint64, XLA_FFI_DataType_U64);
VALUE(ElementType::float16, XLA_FFI_DataType_F16);
VALUE(ElementType::float32, XLA_FFI_DataType_F32);
VALUE(ElementType::float64, XLA_FFI_DataType_F64);
VALUE(ElementType::bfloat16, XLA_FFI_DataType_BF16);

FIELD(Array, header.size, XLA_FFI_Buffer, struct_size);
FIELD(Array, type, XLA_FFI_Buffer, dtype);
FIELD(Array, data, XLA_FFI_Buffer, data);
FIELD(Array, rank, XLA_FFI_Buffer, rank);
FIELD(Array, shape, XLA_FFI_Buffer, dims);

FIELD(Operands, header.size, XLA_FFI_Args, struct_size);
FIELD(Operands, size, XLA_FFI_Args, size);
FIELD(Operands, types, XLA_FFI_Args, types);
FIELD(Operands, values, XLA_FFI_Args, args);
FIELD(Operands, size, XLA_FFI_Rets, size);
FIELD(Operands, types, XLA_FFI_Rets, types);
FIELD(Operands, values, XLA_FFI_Rets, rets);
VALUE(OperandType::array, XLA_FFI_ArgType_BUFFER);
VALUE(OperandType::array, XLA_FFI_RetType_BUFFER);

FIELD(Text, begin, XLA_FFI_ByteSpan, ptr);
FIELD(Text, size, XLA_FFI_ByteSpan, len);
FIELD(Scalar, type, XLA_FFI_Scalar, dtype);
FIELD(Scalar, value, XLA_FFI_Scalar, value);
FIELD(Attributes, size, XLA_FFI_Attrs, size);
FIELD(Attributes, types, XLA_FFI_Attrs, types);
FIELD(Attributes, names, XLA_FFI_Attrs, names);
FIELD(Attributes, values, XLA_FFI_Attrs, attrs);
VALUE(AttributeType::array, XLA_FFI_AttrType_ARRAY);
VALUE(AttributeType::dictionary, XLA_FFI_AttrType_DICTIONARY);
VALUE(AttributeType::scalar, XLA_FFI_AttrType_SCALAR);
VALUE(AttributeType::string, XLA_FFI_AttrType_STRING);

VALUE(Code::invalid_argument, XLA_FFI_Error_Code_INVALID_ARGUMENT);
VALUE(Code::resource_exhausted, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED);
VALUE(Code::internal, XLA_FFI_Error_Code_INTERNAL);
FIELD(CreateError, message, XLA_FFI_Error_Create_Args, message);
FIELD(CreateError, code, XLA_FFI_Error_Create_Args, errc);
REACHES(CreateError, XLA_FFI_Error_Create_Args);
FIELD(DestroyError, error, XLA_FFI_Error_Destroy_Args, error);
REACHES(DestroyError, XLA_FFI_Error_Destroy_Args);

FIELD(Schedule, context, XLA_FFI_ThreadPool_Schedule_Args, ctx);
FIELD(Schedule, task, XLA_FFI_ThreadPool_Schedule_Args, task);
FIELD(Schedule, data, XLA_FFI_ThreadPool_Schedule_Args, data);
REACHES(Schedule, XLA_FFI_ThreadPool_Schedule_Args);
FIELD(CountThreads, context, XLA_FFI_ThreadPool_NumThreads_Args, ctx);
FIELD(CountThreads, threads, XLA_FFI_ThreadPool_NumThreads_Args, num_threads);
REACHES(CountThreads, XLA_FFI_ThreadPool_NumThreads_Args);

FIELD(Functions, header.size, XLA_FFI_Api, struct_size);
FIELD(Functions, version, XLA_FFI_Api, api_version);
FIELD(Functions, internal, XLA_FFI_Api, internal_api);
FIELD(Functions, create_error, XLA_FFI_Api, XLA_FFI_Error_Create);
FIELD(Functions, error_message, XLA_FFI_Api, XLA_FFI_Error_GetMessage);
FIELD(Functions, destroy_error, XLA_FFI_Api, XLA_FFI_Error_Destroy);
FIELD(Functions, schedule, XLA_FFI_Api, XLA_FFI_ThreadPool_Schedule);
FIELD(Functions, count_threads, XLA_FFI_Api, XLA_FFI_ThreadPool_NumThreads);

VALUE(Stage::instantiate, XLA_FFI_ExecutionStage_INSTANTIATE);
VALUE(Stage::prepare, XLA_FFI_ExecutionStage_PREPARE);
VALUE(Stage::initialize, XLA_FFI_ExecutionStage_INITIALIZE);
VALUE(Stage::execute, XLA_FFI_ExecutionStage_EXECUTE);
FIELD(CallFrame, header.extensions, XLA_FFI_CallFrame, extension_start);
FIELD(CallFrame, functions, XLA_FFI_CallFrame, api);
FIELD(CallFrame, context, XLA_FFI_CallFrame, ctx);
FIELD(CallFrame, stage, XLA_FFI_CallFrame, stage);
FIELD(CallFrame, inputs, XLA_FFI_CallFrame, args);
FIELD(CallFrame, outputs, XLA_FFI_CallFrame, rets);
FIELD(CallFrame, attributes, XLA_FFI_CallFrame, attrs);

// what is called, and what calls
static_assert(std::is_same_v<XLA_FFI_Error_Create, XLA_FFI_Error*(XLA_FFI_Error_Create_Args*)>);
static_assert(std::is_same_v<XLA_FFI_Error_Destroy, void(XLA_FFI_Error_Destroy_Args*)>);
static_assert(
    std::is_same_v<XLA_FFI_ThreadPool_Schedule, XLA_FFI_Error*(XLA_FFI_ThreadPool_Schedule_Args*)>);
static_assert(std::is_same_v<XLA_FFI_ThreadPool_NumThreads,
                             XLA_FFI_Error*(XLA_FFI_ThreadPool_NumThreads_Args*)>);
static_assert(std::is_same_v<XLA_FFI_Task, ours::Task>);
static_assert(std::is_same_v<XLA_FFI_Handler, XLA_FFI_Error*(XLA_FFI_CallFrame*)>);
