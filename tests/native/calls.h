// A call of a handler as a file holds it: made by record.cpp in the tests, read by replay.cpp.
#pragma once

#include <cstdint>
#include <istream>
#include <ostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "call.h"

namespace mfjax::ffi {

inline int64_t bytes_of(ElementType type) {
  switch (type) {
    case ElementType::boolean:
    case ElementType::int8:
    case ElementType::uint8:
      return 1;
    case ElementType::int16:
    case ElementType::uint16:
    case ElementType::float16:
    case ElementType::bfloat16:
      return 2;
    case ElementType::int32:
    case ElementType::uint32:
    case ElementType::float32:
      return 4;
    case ElementType::int64:
    case ElementType::uint64:
    case ElementType::float64:
      return 8;
  }
  throw std::runtime_error("no size of " + name_of(type));
}

struct Recorded {
  struct Value {
    ElementType type;
    std::vector<int64_t> shape;
    std::string data;    // empty of an output
    int64_t alias = -1;  // the input that an output shares its memory with

    int64_t bytes() const {
      int64_t bytes = bytes_of(type);
      for (int64_t length : shape) bytes *= length;
      return bytes;
    }
  };
  struct Named {
    std::string name;
    int64_t value;
  };

  std::string handler;
  std::vector<Value> inputs, outputs;
  std::vector<Named> attributes;
};

// numbers of 8 bytes and texts, one after another

class Writer {
 public:
  explicit Writer(std::ostream& out) : out_(out) {}

  void call(const Recorded& call, bool with_data = true) {
    text(call.handler);
    for (const auto* values : {&call.inputs, &call.outputs}) {
      number(int64_t(values->size()));
      for (const auto& value : *values) {
        number(int64_t(value.type));
        number(int64_t(value.shape.size()));
        for (int64_t length : value.shape) number(length);
        text(with_data ? value.data : "");
        number(value.alias);
      }
    }
    number(int64_t(call.attributes.size()));
    for (const auto& attribute : call.attributes) {
      text(attribute.name);
      number(attribute.value);
    }
  }

 private:
  void number(int64_t number) { out_.write(reinterpret_cast<const char*>(&number), sizeof number); }
  void text(const std::string& text) {
    number(int64_t(text.size()));
    out_.write(text.data(), std::streamsize(text.size()));
  }

  std::ostream& out_;
};

class Reader {
 public:
  explicit Reader(std::istream& in) : in_(in) {}

  bool at_end() { return in_.peek() == std::istream::traits_type::eof(); }

  Recorded call() {
    Recorded call;
    call.handler = text();
    for (auto* values : {&call.inputs, &call.outputs}) {
      values->resize(size_t(number()));
      for (auto& value : *values) {
        value.type = ElementType(number());
        value.shape.resize(size_t(number()));
        for (int64_t& length : value.shape) length = number();
        value.data = text();
        value.alias = number();
      }
    }
    call.attributes.resize(size_t(number()));
    for (auto& attribute : call.attributes) attribute = {text(), number()};
    if (!in_) throw std::runtime_error("a file of calls that is cut short");
    return call;
  }

 private:
  int64_t number() {
    int64_t number = 0;
    in_.read(reinterpret_cast<char*>(&number), sizeof number);
    return number;
  }
  std::string text() {
    std::string text(size_t(number()), '\0');
    in_.read(&text[0], std::streamsize(text.size()));
    return text;
  }

  std::istream& in_;
};

}  // namespace mfjax::ffi
