// Bodies of the front end's transform, included by each file that compiles them for an instruction set (see
// activations.hpp). Real and imaginary parts lie in arrays of their own, so that every loop is over adjacent
// floats.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/shared/activations.hpp"

namespace cspbench {
namespace {

constexpr float kPreemphasis = 0.97f;
constexpr int32_t kSumLanes = 16;

// A sum in a fixed order that vectorises.
float sum(const float* x, int32_t count) {
    float lanes[kSumLanes] = {};
    int32_t i = 0;
    for (; i + kSumLanes <= count; i += kSumLanes) {
        for (int32_t lane = 0; lane < kSumLanes; ++lane) lanes[lane] += x[i + lane];
    }
    for (; i < count; ++i) lanes[i % kSumLanes] += x[i];
    for (int32_t half = kSumLanes / 2; half > 0; half /= 2) {
        for (int32_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    }
    return lanes[0];
}

// Windowed, pre-emphasised and padded samples as complex numbers: even ones real, odd ones imaginary.
void shape_window(const FrameTables& tables, const float* CSPBENCH_RESTRICT samples, float* CSPBENCH_RESTRICT flat,
                  float* CSPBENCH_RESTRICT re, float* CSPBENCH_RESTRICT im) {
    const int32_t window = tables.window;
    const float mean = sum(samples, window) / static_cast<float>(window);
    const float* shape = tables.shape;
    flat[0] = shape[0] * ((samples[0] - mean) - kPreemphasis * (samples[0] - mean));
    for (int32_t i = 1; i < window; ++i) {
        flat[i] = shape[i] * ((samples[i] - mean) - kPreemphasis * (samples[i - 1] - mean));
    }
    memset(flat + window, 0, static_cast<size_t>(2 * tables.points - window) * sizeof(float));
    for (int32_t i = 0; i < tables.points; ++i) {
        re[i] = flat[2 * i];
        im[i] = flat[2 * i + 1];
    }
}

struct Complex {
    float re, im;
};

CSPBENCH_INLINE Complex times(float re, float im, float c, float s) { return {re * c - im * s, re * s + im * c}; }

struct Four {
    Complex a, b, c, d;
};

// The transform of four complex numbers.
CSPBENCH_INLINE Four butterfly(Complex a, Complex b, Complex c, Complex d) {
    const Complex p{a.re + c.re, a.im + c.im}, m{a.re - c.re, a.im - c.im};
    const Complex q{b.re + d.re, b.im + d.im}, n{b.im - d.im, d.re - b.re};  // n = -i (b - d)
    return {
        {p.re + q.re, p.im + q.im}, {m.re + n.re, m.im + n.im}, {p.re - q.re, p.im - q.im}, {m.re - n.re, m.im - n.im}};
}

// One pass of Stockham's transform (decimation in frequency, no bit reversal): splits transforms of `left` numbers,
// each `stride` apart from its neighbour, into four. STRIDE is `stride` where it is known, else 0.
template <int32_t STRIDE>
CSPBENCH_INLINE void pass(int32_t left, int32_t stride, const float* twiddles, const float* CSPBENCH_RESTRICT from_re,
                          const float* CSPBENCH_RESTRICT from_im, float* CSPBENCH_RESTRICT to_re,
                          float* CSPBENCH_RESTRICT to_im) {
    const int32_t s = STRIDE ? STRIDE : stride;
    const int32_t quarter = left / 4, far = quarter * s;
    const float *c1 = twiddles, *s1 = c1 + quarter, *c2 = s1 + quarter, *s2 = c2 + quarter, *c3 = s2 + quarter,
                *s3 = c3 + quarter;
    for (int32_t p = 0; p < quarter; ++p) {
        for (int32_t q = 0; q < s; ++q) {
            const int32_t i = s * p + q, o = 4 * s * p + q;
            const Four y =
                butterfly({from_re[i], from_im[i]}, {from_re[i + far], from_im[i + far]},
                          {from_re[i + 2 * far], from_im[i + 2 * far]}, {from_re[i + 3 * far], from_im[i + 3 * far]});
            const Complex b = times(y.b.re, y.b.im, c1[p], s1[p]), c = times(y.c.re, y.c.im, c2[p], s2[p]),
                          d = times(y.d.re, y.d.im, c3[p], s3[p]);
            to_re[o] = y.a.re, to_im[o] = y.a.im;
            to_re[o + s] = b.re, to_im[o + s] = b.im;
            to_re[o + 2 * s] = c.re, to_im[o + 2 * s] = c.im;
            to_re[o + 3 * s] = d.re, to_im[o + 3 * s] = d.im;
        }
    }
}

void last_pair(int32_t stride, const float* CSPBENCH_RESTRICT from_re, const float* CSPBENCH_RESTRICT from_im,
               float* CSPBENCH_RESTRICT to_re, float* CSPBENCH_RESTRICT to_im) {
    for (int32_t q = 0; q < stride; ++q) {
        to_re[q] = from_re[q] + from_re[q + stride];
        to_im[q] = from_im[q] + from_im[q + stride];
        to_re[q + stride] = from_re[q] - from_re[q + stride];
        to_im[q + stride] = from_im[q] - from_im[q + stride];
    }
}

// Transform of `points` complex numbers at signal (re, im); returns where the result lies: signal or other.
float* transform(const FrameTables& tables, float* signal, float* other) {
    const int32_t points = tables.points;
    const float* twiddles = tables.twiddles;
    int32_t left = points, stride = 1;
    for (; left >= 4; left /= 4, stride *= 4) {
        float *re = signal, *im = signal + points, *to_re = other, *to_im = other + points;
        if (stride == 1) {
            pass<1>(left, stride, twiddles, re, im, to_re, to_im);
        } else if (stride == 4) {
            pass<4>(left, stride, twiddles, re, im, to_re, to_im);
        } else {
            pass<0>(left, stride, twiddles, re, im, to_re, to_im);
        }
        twiddles += 6 * (left / 4);
        float* swapped = signal;
        signal = other;
        other = swapped;
    }
    if (left == 2) {
        last_pair(stride, signal, signal + points, other, other + points);
        return other;
    }
    return signal;
}

// |X_k|^2 of the real signal, k < points, from the transform Z of its even and odd samples:
// X_k = E + w^k O and X_(points - k) = conj(E - w^k O), with E, O the halves of Z that are symmetric and antisymmetric.
void power_spectrum(const FrameTables& tables, const float* CSPBENCH_RESTRICT re, const float* CSPBENCH_RESTRICT im,
                    float* CSPBENCH_RESTRICT power, float* CSPBENCH_RESTRICT mirrored) {
    const int32_t points = tables.points, half = points / 2;
    const float *c = tables.split, *s = tables.split + half + 1;
    power[0] = (re[0] + im[0]) * (re[0] + im[0]);
    for (int32_t k = 1; k <= half; ++k) {
        const int32_t m = points - k;
        const float even_re = 0.5f * (re[k] + re[m]), even_im = 0.5f * (im[k] - im[m]);
        const float odd_re = 0.5f * (im[k] + im[m]), odd_im = 0.5f * (re[m] - re[k]);
        const float turned_re = odd_re * c[k] + odd_im * s[k], turned_im = odd_im * c[k] - odd_re * s[k];
        const float up_re = even_re + turned_re, up_im = even_im + turned_im;
        const float down_re = even_re - turned_re, down_im = even_im - turned_im;
        power[k] = up_re * up_re + up_im * up_im;
        mirrored[k] = down_re * down_re + down_im * down_im;
    }
    for (int32_t k = 1; k < half; ++k) power[points - k] = mirrored[k];
}

void mel_energies(const FrameTables& tables, const float* samples, float* scratch, float* energies) {
    const int32_t points = tables.points;
    float *signal = scratch, *other = scratch + 2 * points, *power = scratch + 4 * points;
    shape_window(tables, samples, power, signal, signal + points);
    float* spectrum = transform(tables, signal, other);
    power_spectrum(tables, spectrum, spectrum + points, power, spectrum == signal ? other : signal);
    memset(power + points, 0, 2 * kMelLanes * sizeof(float));  // read with weight zero, so it has to be finite
    for (int32_t bin = 0; bin < tables.bins; ++bin) {
        const float *weights = tables.weights + tables.start[bin], *x = power + tables.first[bin];
        const int32_t count = tables.start[bin + 1] - tables.start[bin];
        float lanes[kMelLanes] = {};
        for (int32_t i = 0; i < count; i += kMelLanes) {
            for (int32_t lane = 0; lane < kMelLanes; ++lane) lanes[lane] += weights[i + lane] * x[i + lane];
        }
        energies[bin] =
            ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
    }
}

}  // namespace

}  // namespace cspbench
