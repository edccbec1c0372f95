// The elementwise part of the engine: activations, a step of an LSTM's gates, and the front end's transform.
//
// They are plain loops (kernels/shared), compiled once for each instruction set. As nothing in them is reordered, and
// multiply-adds are fused where the source says so and nowhere else, every processor computes the same bits. Plain data
// only: see base/format.hpp.
#pragma once

#include <cstdint>

namespace cspbench {

// What the transform of a window reads: plain data for the files that are compiled for an instruction set.
struct FrameTables {
    int32_t window;         // samples of a frame
    int32_t points;         // of the complex transform: half the power of two that holds the window
    int32_t bins;           // mel bins
    const float* shape;     // (window,), times the scale of samples
    const float* twiddles;  // of all radix-4 passes; see transform() in kernels/shared/fbank.hpp
    const float* split;     // cos and sin of 2 pi k / (2 points), (2, points / 2 + 1)
    // Each mel bin is a few spectrum bins from first[bin] on, weighted; their number is a multiple of kMelLanes, the
    // last weights being zero.
    const int32_t* first;  // (bins,)
    const int32_t* start;  // (bins + 1,) into weights
    const float* weights;
};

constexpr int32_t kMelLanes = 8;

struct Loops {
    // All accurate to a few units in the last place. Saturated results are exact (0, 1, -1, infinity), results too
    // small for a normal number are 0, NaN gives NaN. `from` and `to` may be the same.
    void (*exponential)(const float* from, float* to, int32_t count);
    void (*sigmoid)(const float* from, float* to, int32_t count);
    void (*tanh)(const float* from, float* to, int32_t count);
    // Natural logarithm of max(from, floor); floor > 0 and normal.
    void (*logarithm)(const float* from, float* to, int32_t count, float floor);
    // to = tanh(a + b)
    void (*tanh_of_sum)(const float* a, const float* b, float* to, int32_t count);
    // One step of an LSTM layer: gates i f g o (4, width), without their bias -> new cell and hidden state (width,).
    void (*gates)(const float* gates, const float* bias, float* cell, float* hidden, int32_t width);
    // Mel energies of one window of samples; scratch: 6 * points + 2 * kMelLanes floats.
    void (*mel_energies)(const FrameTables& tables, const float* samples, float* scratch, float* energies);
};

// Those of the best instruction set that is in use (dispatch.hpp) and has them.
const Loops& loops();

}  // namespace cspbench
