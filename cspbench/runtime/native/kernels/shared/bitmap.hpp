// Rows of a bitmap, whose groups hold one row or four (see base/format.hpp). In an anonymous namespace: see there.
#pragma once

#include "base/format.hpp"

namespace cspbench {
namespace {

constexpr int kBitmapLanes = 4;  // rows of a group, where it is not one

[[maybe_unused]] int32_t ones_of(uint64_t word) {
#if defined(__GNUC__)
    return __builtin_popcountll(word);
#else
    int32_t count = 0;
    for (; word; word &= word - 1) ++count;
    return count;
#endif
}

[[maybe_unused]] int64_t words_of(const Packed& m) { return (int64_t{m.columns} + 63) / 64; }

// First row of a group, or the number of rows for the group after the last.
[[maybe_unused]] int32_t top_of(const Packed& m, int32_t group) {
    const int64_t top = int64_t{group} * m.parameter[0];
    return top < m.rows ? static_cast<int32_t>(top) : m.rows;
}

// A row's words one after the other, and where the values of each begin. The words of the group's other rows lie
// between them, and so do their values. Behind the last word a few more are counted, of the next group or zeros.
template <class T, int Lanes>
struct BitmapRow {
    const uint64_t* word;
    const T* at;

    BitmapRow(const Packed& m, int32_t row) {
        const int32_t group = row / Lanes, lane = row % Lanes;
        word = m.bits + group * words_of(m) * Lanes;
        at = static_cast<const T*>(m.values) + m.starts[group];
        for (int32_t i = 0; i < lane; ++i) at += ones_of(*word++);
    }

    void next() {
        for (int i = 0; i < Lanes; ++i) at += ones_of(*word++);
    }
    // The same where `at` is behind the values of the current word already.
    void skip() {
        ++word;
        for (int i = 1; i < Lanes; ++i) at += ones_of(*word++);
    }
};

}  // namespace
}  // namespace cspbench
