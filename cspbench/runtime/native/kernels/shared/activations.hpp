// Bodies of the activations, included by each file that compiles them for an instruction set: hence the anonymous
// namespace and nothing of std that could become a shared symbol (see base/format.hpp).
//
// Written so that compilers vectorise them: no branches, and no library calls but for `fused` on processors without it.
// The polynomials are our own fits, least in the greatest relative error over the interval named beside them.
#pragma once

#include <cstdint>

#include "base/values.hpp"
#include "kernels/loops.hpp"

#if defined(__GNUC__)
#define CSPBENCH_RESTRICT __restrict__
#define CSPBENCH_INLINE inline __attribute__((always_inline))
#define CSPBENCH_FMA __builtin_fmaf
#else
extern "C" float fmaf(float, float, float);
#define CSPBENCH_RESTRICT
#define CSPBENCH_INLINE inline
#define CSPBENCH_FMA fmaf
#endif

namespace cspbench {
namespace {

// g++ takes no conditional into a vector as long as comparisons may trap, but it takes masks.
CSPBENCH_INLINE float choose(bool first, float a, float b) {
    const uint32_t mask = 0u - static_cast<uint32_t>(first);
    return float_of((bits_of(a) & mask) | (bits_of(b) & ~mask));
}

// Comparisons are written so that NaN passes through.
CSPBENCH_INLINE float at_least(float x, float low) { return choose(x < low, low, x); }
CSPBENCH_INLINE float at_most(float x, float high) { return choose(x > high, high, x); }

// a * b + c, rounded once. Every processor computes the same bits; one without such an instruction takes its time.
CSPBENCH_INLINE float fused(float a, float b, float c) { return CSPBENCH_FMA(a, b, c); }

// x = n ln 2 + r with |r| <= ln 2 / 2: e^x = 2^n (1 + p).
struct Power {
    float p;      // e^r - 1
    float scale;  // 2^n
};

// |x| <= 87.5, or NaN. Beyond, the result is of no meaning.
CSPBENCH_INLINE Power power_of_e(float x) {
    const float round = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to a whole number in its low bits
    const float shifted = fused(x, 1.44269504f, round);
    const float n = shifted - round;
    const float r = fused(n, 2.12194440e-4f, fused(n, -0.693359375f, x));  // -ln 2 in two parts
    float q = 1.388251e-3f;  // (e^r - 1 - r) / r^2, error 1.3e-8 of e^r - 1
    q = fused(q, r, 8.36658e-3f);
    q = fused(q, r, 4.16672e-2f);
    q = fused(q, r, 0.16666543f);
    q = fused(q, r, 0.49999997f);
    return {fused(q, r * r, r), float_of((bits_of(shifted) << 23) + 0x3F800000u)};
}

CSPBENCH_INLINE float exponential_of(float x) {
    const Power e = power_of_e(at_most(at_least(x, -87.5f), 87.5f));
    const float inside = (1.0f + e.p) * e.scale;
    // From 87.5 to the overflow there is a stretch left: e^x = e^87.5 e^(x - 87.5), the second factor in [1, e^1.23].
    const Power rest = power_of_e(at_most(at_least(x - 87.5f, 0.0f), 2.0f));
    const float whole = inside * ((1.0f + rest.p) * rest.scale);
    return choose(x < -87.33654f, 0.0f, whole);
}

CSPBENCH_INLINE float sigmoid_of(float x) {
    const Power e = power_of_e(at_least(-x, -87.5f));
    const float value = 1.0f / fused(1.0f + e.p, e.scale, 1.0f);
    return choose(x < -87.33654f, 0.0f, value);  // where -x is too large for power_of_e, too
}

// (1 - e^-2|x|) / (1 + e^-2|x|), with the difference from 1 kept apart: accurate near zero as well.
CSPBENCH_INLINE float tanh_of(float x) {
    const uint32_t sign = bits_of(x) & 0x80000000u;
    const float magnitude = float_of(bits_of(x) ^ sign);
    const Power e = power_of_e(at_least(-2.0f * magnitude, -40.0f));
    const float less = fused(e.p, e.scale, e.scale - 1.0f);  // e^-2|x| - 1
    return float_of(bits_of((0.0f - less) / (less + 2.0f)) ^ sign);
}

// x normal and positive, infinity and NaN pass through.
CSPBENCH_INLINE float logarithm_of(float x) {
    // x = 2^n m with m in [sqrt(1/2), sqrt(2)): 0x3F3504F3 are the bits of sqrt(1/2).
    const uint32_t lifted = bits_of(x) - 0x3F3504F3u;
    const float n = static_cast<float>(static_cast<int32_t>(lifted) >> 23);
    const float f = float_of((lifted & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
    float q = -7.635633e-2f;  // (ln(1 + f) - f + f^2 / 2) / f^3, error 5.8e-9 of ln(1 + f)
    q = q * f + 0.12763318f;
    q = q * f - 0.13160586f;
    q = q * f + 0.14201555f;
    q = q * f - 0.16623297f;
    q = q * f + 0.20001233f;
    q = q * f - 0.25000823f;
    q = q * f + 0.3333333f;
    const float square = f * f;
    const float tail = q * (square * f) + n * -2.12194440e-4f;
    const float value = ((tail - 0.5f * square) + f) + n * 0.693359375f;
    return choose(x < float_of(0x7F800000u), value, x);
}

void exponential(const float* from, float* to, int32_t count) {
    for (int32_t i = 0; i < count; ++i) to[i] = exponential_of(from[i]);
}

void sigmoid(const float* from, float* to, int32_t count) {
    for (int32_t i = 0; i < count; ++i) to[i] = sigmoid_of(from[i]);
}

void tanh(const float* from, float* to, int32_t count) {
    for (int32_t i = 0; i < count; ++i) to[i] = tanh_of(from[i]);
}

void logarithm(const float* from, float* to, int32_t count, float floor) {
    for (int32_t i = 0; i < count; ++i) to[i] = logarithm_of(at_least(from[i], floor));
}

void tanh_of_sum(const float* CSPBENCH_RESTRICT a, const float* CSPBENCH_RESTRICT b, float* CSPBENCH_RESTRICT to,
                 int32_t count) {
    for (int32_t i = 0; i < count; ++i) to[i] = tanh_of(a[i] + b[i]);
}

void gates(const float* CSPBENCH_RESTRICT gates, const float* CSPBENCH_RESTRICT bias, float* CSPBENCH_RESTRICT cell,
           float* CSPBENCH_RESTRICT hidden, int32_t width) {
    const float *in = gates, *forget = gates + width, *fresh = gates + 2 * width, *out = gates + 3 * width;
    const float *in_bias = bias, *forget_bias = bias + width;
    const float *fresh_bias = bias + 2 * width, *out_bias = bias + 3 * width;
    for (int32_t i = 0; i < width; ++i) {
        const float kept = sigmoid_of(forget[i] + forget_bias[i]) * cell[i];
        const float added = sigmoid_of(in[i] + in_bias[i]) * tanh_of(fresh[i] + fresh_bias[i]);
        const float state = kept + added;
        cell[i] = state;
        hidden[i] = sigmoid_of(out[i] + out_bias[i]) * tanh_of(state);
    }
}

}  // namespace
}  // namespace cspbench
