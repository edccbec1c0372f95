// A conformer encoder on packed weights, chunk after chunk: the computation of cspbench/asr/conformer.py.
#pragma once

#include <cstdint>
#include <vector>

#include "base/buffer.hpp"
#include "recogniser/lstm.hpp"

namespace cspbench {

// Normalisation of a vector to mean 0 and variance 1, then a gain and a bias a channel.
struct LayerNorm {
    std::vector<float> gain, bias;

    // y = normalised x for `rows` vectors that lie one behind the other; x and y may be the same.
    void operator()(const float* x, float* y, int32_t rows) const;
};

struct FeedForward {
    LayerNorm norm;
    Affine widen, narrow;
};

struct ConformerBlock {
    FeedForward first;
    LayerNorm attention_norm;
    Affine attention_inputs, attention_output;  // queries, keys and values of all heads, one behind the other
    LayerNorm convolution_norm;
    Affine gate;
    std::vector<float> taps, taps_bias;  // (kernel, width) and (width,)
    LayerNorm convolution_normalise;
    Affine convolution_output;
    FeedForward second;
    LayerNorm norm;
};

// Immutable, so that many streams share it.
class Conformer {
public:
    struct Sizes {
        int32_t heads, kernel, chunk, left;  // of cspbench.asr.conformer.ConformerShape
    };

    // What a stream remembers: keys and values of the last `frames` <= left frames (layers, frames, width), and the
    // gated inputs of the convolution of the last kernel - 1 frames (layers, kernel - 1, width), zeros at first.
    struct State {
        const float *keys, *values, *gated;
        int32_t frames;
    };
    struct NextState {
        float *keys, *values, *gated;
    };

    // Throws std::invalid_argument where sizes do not fit each other.
    Conformer(Affine projection, std::vector<ConformerBlock> blocks, const Sizes& sizes);

    int32_t inputs() const { return projection_.inputs(); }
    int32_t width() const { return projection_.outputs(); }
    int32_t layers() const { return static_cast<int32_t>(blocks_.size()); }
    const Sizes& sizes() const { return sizes_; }
    // Frames whose keys are kept after `rows` more.
    int32_t kept(int32_t frames, int32_t rows) const;

    // Features (rows, inputs), 1 <= rows <= chunk, -> encodings y (rows, width) and the state after them.
    void advance(const float* x, int32_t rows, const State& before, float* y, const NextState& after,
                 int threads) const;

private:
    struct Scratch;

    void check() const;
    void feed_forward(const FeedForward& layer, float* x, int32_t rows, int threads, Scratch& scratch) const;
    void attend(const ConformerBlock& block, float* x, int32_t rows, const State& before, const NextState& after,
                int threads, Scratch& scratch) const;
    void convolve(const ConformerBlock& block, float* x, int32_t rows, const float* before, float* after, int threads,
                  Scratch& scratch) const;

    Affine projection_;
    std::vector<ConformerBlock> blocks_;
    Sizes sizes_;
    Buffer cosine_, sine_;  // (left + chunk, width / heads / 2): of the angles of each position
};

}  // namespace cspbench
