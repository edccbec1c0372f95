// The types that weights are stored in. Internal linkage: see base/format.hpp.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/format.hpp"

namespace cspbench {
namespace {

[[maybe_unused]] uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

[[maybe_unused]] float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

[[maybe_unused]] float bf16_to_float(uint16_t half) { return float_of(static_cast<uint32_t>(half) << 16); }

// Finite values only. The product shifts the exponent's bias and makes subnormals normal on the way.
[[maybe_unused]] float fp16_to_float(uint16_t half) {
    const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fff) << 13;
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
    return float_of(bits_of(float_of(magnitude) * 0x1p112f) | sign);
}

// Round half to even; overflows to infinity.
[[maybe_unused]] uint16_t float_to_bf16(float value) {
    const uint32_t bits = bits_of(value);
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Round half to even; overflows to infinity.
[[maybe_unused]] uint16_t float_to_fp16(float value) {
    const uint32_t sign = (bits_of(value) >> 16) & 0x8000;
    const uint32_t magnitude = bits_of(value) & 0x7fffffff;
    if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // 65520 and above
    if (magnitude < 0x38800000) {  // below 2^-14: a sum with 0.5 leaves multiples of 2^-24, rounded by the processor
        const uint32_t rounded = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
        return static_cast<uint16_t>(sign | rounded);
    }
    const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

// Values with a scale a row.
[[maybe_unused]] bool has_scales(Value value) { return value == Value::int8 || value == Value::int4; }

// One of two int4 a byte.
[[maybe_unused]] int32_t nibble_at(const uint8_t* values, int64_t index) {
    const int32_t byte = values[index / 2];
    return ((index % 2 ? byte >> 4 : byte & 15) ^ 8) - 8;
}

// A stored weight, by the type of the values; int8 and int4 without the scale of the row.
[[maybe_unused]] float value_at(const Packed& m, int64_t index) {
    switch (m.value) {
        case Value::fp32: return static_cast<const float*>(m.values)[index];
        case Value::fp16: return fp16_to_float(static_cast<const uint16_t*>(m.values)[index]);
        case Value::bf16: return bf16_to_float(static_cast<const uint16_t*>(m.values)[index]);
        case Value::int8: return static_cast<const int8_t*>(m.values)[index];
        case Value::int4: return static_cast<float>(nibble_at(static_cast<const uint8_t*>(m.values), index));
    }
    return 0;
}

// A stored weight of a row, its scale applied.
[[maybe_unused]] float weight(const Packed& m, int32_t row, int64_t index) {
    const float value = value_at(m, index);
    return m.scales ? m.scales[row] * value : value;
}

}  // namespace
}  // namespace cspbench
