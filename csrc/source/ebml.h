// ebml: the elements that Matroska files are made of (RFC 8794): an identifier and a size, each as long as the leading zero bits of its
// first byte say.
#pragma once

#include <cstdint>

namespace vidload {

constexpr uint32_t kEbmlHeader = 0x1A45DFA3, kEbmlSegment = 0x18538067, kEbmlCluster = 0x1F43B675;
constexpr int64_t kEbmlUnknown = -1;

struct EbmlElement {
  uint32_t id = 0;
  int64_t body = 0, size = 0;  // kEbmlUnknown: up to where its parent ends
  int64_t end() const { return body + size; }
};

// A number of one to eight bytes. How many it takes; 0 where there is none.
inline int parse_ebml_number(const uint8_t* bytes, int64_t count, int64_t* number) {
  if (count < 1 || bytes[0] == 0) return 0;
  int length = 1;
  while (!(bytes[0] & (0x80 >> (length - 1)))) ++length;
  if (length > count) return 0;
  uint64_t value = bytes[0] & (0xFF >> length);
  for (int i = 1; i < length; ++i) value = value << 8 | bytes[i];
  *number = value == (uint64_t{1} << 7 * length) - 1 ? kEbmlUnknown : int64_t(value);
  return length;
}

// `bytes`: the first `count` of the element at `at`; up to 12 are looked at. False where there is none.
inline bool parse_ebml_element(const uint8_t* bytes, int64_t count, int64_t at, EbmlElement* element) {
  int64_t ignored = 0;
  const int id_length = parse_ebml_number(bytes, count, &ignored);
  if (id_length == 0 || id_length > 4) return false;
  const int size_length = parse_ebml_number(bytes + id_length, count - id_length, &element->size);
  if (size_length == 0) return false;
  element->id = 0;
  for (int i = 0; i < id_length; ++i) element->id = element->id << 8 | bytes[i];
  element->body = at + id_length + size_length;
  return true;
}

}  // namespace vidload
