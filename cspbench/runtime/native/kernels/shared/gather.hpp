// Inputs of a row of entries, put side by side. In an anonymous namespace: see base/format.hpp.
#pragma once

#include <cstring>

#include "base/format.hpp"

namespace cspbench {
namespace {

constexpr uint32_t kStretch = 1024;  // entries that are gathered before they are multiplied
constexpr uint32_t kGathered = 64;   // gathered bytes are followed by zeros up to a multiple of so many

// to[i] = q[places[i]] for i < count <= kStretch, and zeros behind. One by one: on Zen 5 a vpgatherdd takes 28 cycles
// for sixteen, this about 18. What is written is not read back at once, or its small parts could not be forwarded.
[[maybe_unused]] void gather_bytes(const int8_t* q, const uint16_t* places, uint32_t count, int8_t* to) {
    constexpr uint32_t kUnrolled = 8;
    uint32_t i = 0;
    for (; i + kUnrolled <= count; i += kUnrolled)
        for (uint32_t k = 0; k < kUnrolled; ++k) to[i + k] = q[places[i + k]];
    for (; i < count; ++i) to[i] = q[places[i]];
    std::memset(to + count, 0, (kGathered - count % kGathered) % kGathered);
}

}  // namespace
}  // namespace cspbench
