// Weights as they are stored: fp32, fp16, bf16, or int8 and int4 with a scale a row.
#include <cmath>
#include <cstring>

#include "base/values.hpp"
#include "matrix/codec.hpp"

namespace cspbench {
namespace {

[[noreturn]] void refuse(const char* what, int64_t index, int32_t columns) {
    throw std::invalid_argument("the weight at row " + std::to_string(index / columns) + ", column " +
                                std::to_string(index % columns) + " " + what);
}

// -0 comes of a pruned negative weight: it is no different from 0, and is not to be stored.
float plain(float weight) { return weight == 0 ? 0.0f : weight; }

void round_half(Rounded& to, const float* dense) {
    auto* half = reinterpret_cast<uint16_t*>(to.bits.data());
    const int64_t count = int64_t{to.rows} * to.columns;
    const bool brain = to.value == Value::bf16;
    const uint16_t infinity = brain ? 0x7f80 : 0x7c00;
    for (int64_t i = 0; i < count; ++i) {
        const uint16_t rounded = brain ? float_to_bf16(dense[i]) : float_to_fp16(dense[i]);
        if ((rounded & 0x7fff) >= infinity) refuse("is too large for 16 bits", i, to.columns);
        half[i] = (rounded & 0x7fff) ? rounded : 0;
    }
}

void round_scaled(Rounded& to, const float* dense) {
    const float most = to.value == Value::int8 ? 127 : 7;
    to.scales.assign(static_cast<size_t>(to.rows), 0.0f);
    for (int32_t row = 0; row < to.rows; ++row) {
        const float* from = dense + int64_t{row} * to.columns;
        auto* q = reinterpret_cast<int8_t*>(to.bits.data()) + int64_t{row} * to.columns;
        float largest = 0;
        for (int32_t c = 0; c < to.columns; ++c) largest = std::fmax(largest, std::fabs(from[c]));
        const float scale = largest / most;
        if (scale == 0) continue;
        to.scales[static_cast<size_t>(row)] = scale;
        // A subnormal scale is coarse, and the quotient may be larger.
        for (int32_t c = 0; c < to.columns; ++c)
            q[c] = static_cast<int8_t>(std::nearbyint(std::fmax(-most, std::fmin(most, from[c] / scale))));
    }
}

}  // namespace

Rounded round_weights(const float* dense, int32_t rows, int32_t columns, Value value) {
    const int64_t count = int64_t{rows} * columns;
    for (int64_t i = 0; i < count; ++i)
        if (!std::isfinite(dense[i])) refuse("is not finite", i, columns);
    Rounded rounded{value, rows, columns, {}, {}};
    rounded.bits.resize(static_cast<size_t>(count) * size_of(type_of(value)));
    if (value == Value::fp32) {
        auto* to = reinterpret_cast<float*>(rounded.bits.data());
        for (int64_t i = 0; i < count; ++i) to[i] = plain(dense[i]);
    } else if (has_scales(value)) {
        round_scaled(rounded, dense);
    } else {
        round_half(rounded, dense);
    }
    return rounded;
}

}  // namespace cspbench
