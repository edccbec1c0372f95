// LSTM layers on packed weights, step by step, for one stream or several.
#pragma once

#include <cstdint>
#include <vector>

#include "base/buffer.hpp"
#include "matrix/matrix.hpp"

namespace cspbench {

// Buffers of a computation that need not outlive it. One for each thread that steps.
struct Scratch {
    Buffer inputs, sums, outputs;
};

// y = W x + b for `batch` vectors that lie one behind the other; b may be empty.
class Affine {
public:
    Affine(Matrix matrix, std::vector<float> bias);

    int32_t inputs() const { return matrix_.columns(); }
    int32_t outputs() const { return matrix_.rows(); }
    void operator()(const float* x, float* y, int batch, int threads) const;

private:
    Matrix matrix_;
    std::vector<float> bias_;
};

// What an Lstm remembers of one stream: of each layer its joined input [x; h] and its cell.
struct LstmState {
    std::vector<Buffer> joined;
    std::vector<Buffer> cell;
};

// A stack of layers; immutable, so that many streams share it.
class Lstm {
public:
    struct Layer {
        Matrix matrix;            // input and recurrent weights side by side, (4 H, in + H), gates i f g o
        std::vector<float> bias;  // (4 H,)
    };

    // Throws std::invalid_argument where shapes do not fit each other.
    explicit Lstm(std::vector<Layer> layers);

    int32_t inputs() const { return inputs_of(0); }
    int32_t outputs() const { return width_of(static_cast<int>(layers_.size()) - 1); }
    int layers() const { return static_cast<int>(layers_.size()); }
    int32_t inputs_of(int layer) const;
    int32_t width_of(int layer) const { return layers_[static_cast<size_t>(layer)].matrix.rows() / 4; }

    LstmState start() const;  // zeros
    // One step for each of `batch` streams: copies the inputs() floats from x[b]. The result is `output` of the state.
    // Of `threads` each product takes those that pay.
    void step(LstmState* const* states, const float* const* x, int batch, int threads, Scratch& scratch) const;
    const float* output(const LstmState& state) const { return hidden(state, layers() - 1); }
    float* hidden(LstmState& state, int layer) const;
    const float* hidden(const LstmState& state, int layer) const;

private:
    void multiply(const Matrix& matrix, int layer, LstmState* const* states, int batch, int most_threads,
                  Scratch& scratch) const;

    std::vector<Layer> layers_;
};

}  // namespace cspbench
