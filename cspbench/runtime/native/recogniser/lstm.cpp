#include "recogniser/lstm.hpp"

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "kernels/loops.hpp"

namespace cspbench {
namespace {

void check_bias(const std::vector<float>& bias, int32_t rows, const char* what) {
    if (static_cast<int64_t>(bias.size()) != rows) {
        throw std::invalid_argument(std::string("the bias of ") + what + " has " + std::to_string(bias.size()) +
                                    " values, its matrix " + std::to_string(rows) + " rows");
    }
    for (float value : bias) {
        if (!std::isfinite(value)) throw std::invalid_argument(std::string("a bias of ") + what + " is not finite");
    }
}

void copy(const float* from, float* to, int32_t count) { memcpy(to, from, static_cast<size_t>(count) * sizeof(float)); }

}  // namespace

Affine::Affine(Matrix matrix, std::vector<float> bias) : matrix_(std::move(matrix)), bias_(std::move(bias)) {
    if (!bias_.empty()) check_bias(bias_, matrix_.rows(), "an affine layer");
}

void Affine::operator()(const float* x, float* y, int batch, int threads) const {
    matrix_.multiply(x, y, batch, matrix_.useful_threads(threads, batch));
    if (bias_.empty()) return;
    const int32_t rows = outputs();
    for (int b = 0; b < batch; ++b, y += rows) {
        for (int32_t row = 0; row < rows; ++row) y[row] += bias_[static_cast<size_t>(row)];
    }
}

Lstm::Lstm(std::vector<Layer> layers) : layers_(std::move(layers)) {
    if (layers_.empty()) throw std::invalid_argument("an LSTM needs at least one layer");
    for (int layer = 0; layer < this->layers(); ++layer) {
        const Layer& own = layers_[static_cast<size_t>(layer)];
        const int32_t rows = own.matrix.rows();
        const std::string name = "layer " + std::to_string(layer);
        if (rows % 4 != 0 || inputs_of(layer) < 1) {
            throw std::invalid_argument("the matrix of " + name + " is " + std::to_string(rows) + " x " +
                                        std::to_string(own.matrix.columns()) + "; an LSTM's is 4 H x (inputs + H)");
        }
        check_bias(own.bias, rows, name.c_str());
        if (layer > 0 && inputs_of(layer) != width_of(layer - 1)) {
            throw std::invalid_argument(name + " takes " + std::to_string(inputs_of(layer)) +
                                        " inputs, the layer before gives " + std::to_string(width_of(layer - 1)));
        }
    }
}

int32_t Lstm::inputs_of(int layer) const {
    return layers_[static_cast<size_t>(layer)].matrix.columns() - width_of(layer);
}

LstmState Lstm::start() const {
    LstmState state;
    for (int layer = 0; layer < layers(); ++layer) {
        state.joined.emplace_back(padded(layers_[static_cast<size_t>(layer)].matrix.columns()));
        state.cell.emplace_back(width_of(layer));
    }
    return state;
}

float* Lstm::hidden(LstmState& state, int layer) const {
    return state.joined[static_cast<size_t>(layer)].data() + inputs_of(layer);
}

const float* Lstm::hidden(const LstmState& state, int layer) const {
    return state.joined[static_cast<size_t>(layer)].data() + inputs_of(layer);
}

void Lstm::multiply(const Matrix& matrix, int layer, LstmState* const* states, int batch, int most_threads,
                    Scratch& scratch) const {
    const int threads = matrix.useful_threads(most_threads, batch);
    const auto index = static_cast<size_t>(layer);
    const int32_t columns = matrix.columns();
    scratch.sums.at_least(int64_t{batch} * matrix.rows());
    if (batch == 1 && threads == 1) {
        matrix.multiply_padded(states[0]->joined[index].data(), scratch.sums.data());
        return;
    }
    scratch.inputs.at_least(int64_t{batch} * columns);
    for (int b = 0; b < batch; ++b) {
        copy(states[b]->joined[index].data(), scratch.inputs.data() + int64_t{b} * columns, columns);
    }
    matrix.multiply(scratch.inputs.data(), scratch.sums.data(), batch, threads);
}

void Lstm::step(LstmState* const* states, const float* const* x, int batch, int threads, Scratch& scratch) const {
    const Loops& all = loops();
    for (int layer = 0; layer < layers(); ++layer) {
        const auto index = static_cast<size_t>(layer);
        const Layer& own = layers_[index];
        for (int b = 0; b < batch; ++b) {
            const float* from = layer == 0 ? x[b] : hidden(*states[b], layer - 1);
            copy(from, states[b]->joined[index].data(), inputs_of(layer));
        }
        multiply(own.matrix, layer, states, batch, threads, scratch);
        const int32_t width = width_of(layer);
        for (int b = 0; b < batch; ++b) {
            all.gates(scratch.sums.data() + int64_t{b} * 4 * width, own.bias.data(), states[b]->cell[index].data(),
                      hidden(*states[b], layer), width);
        }
    }
}

}  // namespace cspbench
