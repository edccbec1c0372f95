// Rounding an input to bytes, on any processor.
#include <cstring>

#include "kernels/portable/common.hpp"

namespace cspbench {
namespace {

uint32_t largest_magnitude(const float* x, int32_t count) {
    int32_t largest = 0;  // magnitudes order as their bits do, and what is not finite comes above all
    for (int32_t i = 0; i < count; ++i) {
        const auto bits = static_cast<int32_t>(bits_of(x[i]) & 0x7fffffff);
        largest = bits > largest ? bits : largest;
    }
    return static_cast<uint32_t>(largest);
}

void quantise(const float* x, int32_t count, int8_t* q, float* scale) {
    const uint32_t bits = largest_magnitude(x, count);
    const bool finite = bits < 0x7f800000;
    const float largest = float_of(bits);
    if (!finite || largest < 0x1p-100f) {
        *scale = finite ? 0 : float_of(0x7fc00000);
        std::memset(q, 0, static_cast<size_t>(count));
        return;
    }
    *scale = largest / 127;
    const float inverse = 127 / largest;
    // Adding 1.5 * 2^23 leaves no bits for a fraction: the processor rounds, half to even.
    constexpr float kMagic = 12582912.0f;
    for (int32_t i = 0; i < count; ++i) q[i] = static_cast<int8_t>(bits_of(x[i] * inverse + kMagic) & 0xff);
}

}  // namespace

void portable::add_quantise(Kernels& kernels) { kernels.quantise = quantise; }

}  // namespace cspbench
