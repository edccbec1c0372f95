#include "recogniser/conformer.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/denormals.hpp"
#include "kernels/loops.hpp"

namespace cspbench {
namespace {

constexpr float kEpsilon = 1e-5f;        // of torch.nn.LayerNorm
constexpr double kLongestWave = 10000.0;  // of the rotary positions
constexpr int32_t kStrands = 8;           // partial sums of a long one, so that they can be vectors

void copy(const float* from, float* to, int64_t count) {
    if (count) std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
}

// Sum of (x - centre)^Power.
template <int Power>
float sum_of(const float* x, float centre, int32_t count) {
    float strands[kStrands] = {};
    int32_t i = 0;
    for (; i + kStrands <= count; i += kStrands)
        for (int32_t k = 0; k < kStrands; ++k) {
            const float difference = x[i + k] - centre;
            strands[k] += Power == 1 ? difference : difference * difference;
        }
    for (; i < count; ++i) strands[0] += Power == 1 ? x[i] - centre : (x[i] - centre) * (x[i] - centre);
    float sum = 0;
    for (float strand : strands) sum += strand;
    return sum;
}

// y += scale * x
void add(const float* __restrict__ x, float scale, float* __restrict__ y, int32_t count) {
    for (int32_t i = 0; i < count; ++i) y[i] += scale * x[i];
}

// y += a * x + b * z
void add(const float* __restrict__ x, float a, const float* __restrict__ z, float b, float* __restrict__ y,
         int32_t count) {
    for (int32_t i = 0; i < count; ++i) y[i] += a * x[i] + b * z[i];
}

// x *= sigmoid(gate)
void multiply_by_sigmoid(const float* gate, float* x, int32_t count, float* sigmoid) {
    loops().sigmoid(gate, sigmoid, count);
    for (int32_t i = 0; i < count; ++i) x[i] *= sigmoid[i];
}

void softmax(float* x, int32_t count) {
    const float largest = *std::max_element(x, x + count);
    for (int32_t i = 0; i < count; ++i) x[i] -= largest;
    loops().exponential(x, x, count);
    const float scale = 1 / sum_of<1>(x, 0, count);
    for (int32_t i = 0; i < count; ++i) x[i] *= scale;
}

void agree(int64_t one, int64_t other, const char* what) {
    if (one != other)
        throw std::invalid_argument(std::string(what) + ": " + std::to_string(one) + " and " + std::to_string(other) +
                                    " do not fit");
}

void agree(const Affine& layer, int64_t inputs, int64_t outputs, const char* what) {
    agree(layer.inputs(), inputs, what);
    agree(layer.outputs(), outputs, what);
}

void agree(const LayerNorm& norm, int64_t width) {
    agree(static_cast<int64_t>(norm.gain.size()), width, "gain of a normalisation and width");
    agree(static_cast<int64_t>(norm.bias.size()), width, "bias of a normalisation and width");
}

}  // namespace

void LayerNorm::operator()(const float* x, float* y, int32_t rows) const {
    const auto width = static_cast<int32_t>(gain.size());
    for (int32_t row = 0; row < rows; ++row, x += width, y += width) {
        const float mean = sum_of<1>(x, 0, width) / static_cast<float>(width);
        const float variance = sum_of<2>(x, mean, width) / static_cast<float>(width);
        const float scale = 1 / std::sqrt(variance + kEpsilon);
        for (int32_t i = 0; i < width; ++i) y[i] = (x[i] - mean) * scale * gain[i] + bias[i];
    }
}

// Buffers of a computation; one for each thread that computes.
struct Conformer::Scratch {
    Buffer normal, wide, sigmoid, narrow, keys, query, scores, gated;
};

Conformer::Conformer(Affine projection, std::vector<ConformerBlock> blocks, const Sizes& sizes)
    : projection_(std::move(projection)), blocks_(std::move(blocks)), sizes_(sizes) {
    check();
    const int32_t half = width() / sizes_.heads / 2, positions = sizes_.left + sizes_.chunk;
    cosine_.resize(int64_t{positions} * half);
    sine_.resize(int64_t{positions} * half);
    for (int32_t position = 0; position < positions; ++position)
        for (int32_t i = 0; i < half; ++i) {
            const double angle = position * std::pow(kLongestWave, -static_cast<double>(i) / half);
            cosine_.data()[position * half + i] = static_cast<float>(std::cos(angle));
            sine_.data()[position * half + i] = static_cast<float>(std::sin(angle));
        }
}

void Conformer::check() const {
    const int64_t wide = width();
    if (blocks_.empty()) throw std::invalid_argument("a conformer needs at least one layer");
    if (sizes_.heads < 1 || sizes_.kernel < 1 || sizes_.chunk < 1 || sizes_.left < 0)
        throw std::invalid_argument("heads, kernel and chunk must be at least 1");
    if (wide % (2 * sizes_.heads)) throw std::invalid_argument("the width must be a multiple of twice the heads");
    for (const ConformerBlock& block : blocks_) {
        for (const FeedForward* layer : {&block.first, &block.second}) {
            agree(layer->norm, wide);
            agree(layer->widen, wide, layer->widen.outputs(), "inputs of a feed-forward layer and width");
            agree(layer->narrow, layer->widen.outputs(), wide, "layers of a feed-forward layer");
        }
        for (const LayerNorm* norm :
             {&block.attention_norm, &block.convolution_norm, &block.convolution_normalise, &block.norm})
            agree(*norm, wide);
        agree(block.attention_inputs, wide, 3 * wide, "queries, keys and values, and width");
        agree(block.attention_output, wide, wide, "output of the attention and width");
        agree(block.gate, wide, 2 * wide, "gate of the convolution and width");
        agree(block.convolution_output, wide, wide, "output of the convolution and width");
        agree(static_cast<int64_t>(block.taps.size()), sizes_.kernel * wide, "taps of the convolution");
        agree(static_cast<int64_t>(block.taps_bias.size()), wide, "bias of the convolution and width");
    }
}

int32_t Conformer::kept(int32_t frames, int32_t rows) const { return std::min(frames + rows, sizes_.left); }

void Conformer::advance(const float* x, int32_t rows, const State& before, float* y, const NextState& after,
                        int threads) const {
    const FlushDenormals flush;
    thread_local Scratch scratch;
    projection_(x, y, rows, threads);
    const int64_t old = int64_t{before.frames} * width(), next = int64_t{kept(before.frames, rows)} * width();
    const int64_t gated = int64_t{sizes_.kernel - 1} * width();
    for (int32_t layer = 0; layer < layers(); ++layer) {
        const ConformerBlock& block = blocks_[static_cast<size_t>(layer)];
        feed_forward(block.first, y, rows, threads, scratch);
        attend(block, y, rows, {before.keys + layer * old, before.values + layer * old, nullptr, before.frames},
               {after.keys + layer * next, after.values + layer * next, nullptr}, threads, scratch);
        convolve(block, y, rows, before.gated + layer * gated, after.gated + layer * gated, threads, scratch);
        feed_forward(block.second, y, rows, threads, scratch);
        block.norm(y, y, rows);
    }
}

// x += half of the layer's output
void Conformer::feed_forward(const FeedForward& layer, float* x, int32_t rows, int threads, Scratch& scratch) const {
    const int32_t inner = rows * layer.widen.outputs(), outer = rows * width();
    scratch.normal.at_least(outer);
    scratch.wide.at_least(inner);
    scratch.sigmoid.at_least(inner);
    scratch.narrow.at_least(outer);
    layer.norm(x, scratch.normal.data(), rows);
    layer.widen(scratch.normal.data(), scratch.wide.data(), rows, threads);
    multiply_by_sigmoid(scratch.wide.data(), scratch.wide.data(), inner, scratch.sigmoid.data());
    layer.narrow(scratch.wide.data(), scratch.narrow.data(), rows, threads);
    add(scratch.narrow.data(), 0.5f, x, outer);
}

// x += the attention of its rows to themselves and to the frames before
void Conformer::attend(const ConformerBlock& block, float* x, int32_t rows, const State& before,
                       const NextState& after, int threads, Scratch& scratch) const {
    const int32_t wide = width(), size = wide / sizes_.heads, half = size / 2, all = before.frames + rows;
    scratch.normal.at_least(int64_t{rows} * wide);
    scratch.wide.at_least(int64_t{rows} * 3 * wide);
    scratch.narrow.at_least(int64_t{rows} * wide);
    scratch.keys.at_least(int64_t{size} * all);
    scratch.query.at_least(size);
    scratch.scores.at_least(all);
    block.attention_norm(x, scratch.normal.data(), rows);
    block.attention_inputs(scratch.normal.data(), scratch.wide.data(), rows, threads);
    // Keys (part 1) or values (part 2) of a frame, of those before or of these.
    const auto frame = [&](int32_t position, int32_t part) {
        const float* old = part == 1 ? before.keys : before.values;
        return position < before.frames ? old + int64_t{position} * wide
                                        : scratch.wide.data() + (3 * (position - before.frames) + part) * int64_t{wide};
    };
    float *keys = scratch.keys.data(), *query = scratch.query.data(), *scores = scratch.scores.data();
    std::fill_n(scratch.normal.data(), int64_t{rows} * wide, 0.0f);  // from here on what the heads give
    for (int32_t head = 0; head < sizes_.heads; ++head) {
        for (int32_t j = 0; j < all; ++j) {  // rotated, and transposed to (size, all)
            const float *key = frame(j, 1) + head * size, *other = key + half;
            const float *cosine = cosine_.data() + j * half, *sine = sine_.data() + j * half;
            for (int32_t i = 0; i < half; ++i) {
                keys[i * all + j] = key[i] * cosine[i] - other[i] * sine[i];
                keys[(half + i) * all + j] = key[i] * sine[i] + other[i] * cosine[i];
            }
        }
        const float scale = 1 / std::sqrt(static_cast<float>(size));
        for (int32_t row = 0; row < rows; ++row) {
            const float *own = scratch.wide.data() + int64_t{row} * 3 * wide + head * size, *other = own + half;
            const int32_t at = (before.frames + row) * half;
            const float *cosine = cosine_.data() + at, *sine = sine_.data() + at;
            for (int32_t i = 0; i < half; ++i) {
                query[i] = (own[i] * cosine[i] - other[i] * sine[i]) * scale;
                query[half + i] = (own[i] * sine[i] + other[i] * cosine[i]) * scale;
            }
            std::fill_n(scores, all, 0.0f);
            for (int32_t i = 0; i < half; ++i)
                add(keys + i * all, query[i], keys + (half + i) * all, query[half + i], scores, all);
            softmax(scores, all);
            float* y = scratch.normal.data() + int64_t{row} * wide + head * size;
            for (int32_t j = 0; j < all; ++j) add(frame(j, 2) + head * size, scores[j], y, size);
        }
    }
    const int32_t next = kept(before.frames, rows);
    for (int32_t j = 0; j < next; ++j) {
        copy(frame(all - next + j, 1), after.keys + int64_t{j} * wide, wide);
        copy(frame(all - next + j, 2), after.values + int64_t{j} * wide, wide);
    }
    block.attention_output(scratch.normal.data(), scratch.narrow.data(), rows, threads);
    add(scratch.narrow.data(), 1, x, rows * wide);
}

// x += the gated convolution of its rows and of those before
void Conformer::convolve(const ConformerBlock& block, float* x, int32_t rows, const float* before, float* after,
                         int threads, Scratch& scratch) const {
    const int32_t wide = width(), past = sizes_.kernel - 1;
    scratch.normal.at_least(int64_t{rows} * wide);
    scratch.wide.at_least(int64_t{rows} * 2 * wide);
    scratch.sigmoid.at_least(wide);
    scratch.narrow.at_least(int64_t{rows} * wide);
    scratch.gated.at_least(int64_t{past + rows} * wide);
    block.convolution_norm(x, scratch.normal.data(), rows);
    block.gate(scratch.normal.data(), scratch.wide.data(), rows, threads);
    float *gated = scratch.gated.data(), *convolved = scratch.normal.data();
    copy(before, gated, int64_t{past} * wide);
    for (int32_t row = 0; row < rows; ++row) {
        const float* both = scratch.wide.data() + int64_t{row} * 2 * wide;
        float* own = gated + int64_t{past + row} * wide;
        copy(both, own, wide);
        multiply_by_sigmoid(both + wide, own, wide, scratch.sigmoid.data());
    }
    for (int32_t row = 0; row < rows; ++row) {
        float* y = convolved + int64_t{row} * wide;
        copy(block.taps_bias.data(), y, wide);
        for (int32_t tap = 0; tap < sizes_.kernel; ++tap) {
            const float *__restrict__ weights = block.taps.data() + int64_t{tap} * wide,
                        *__restrict__ from = gated + int64_t{row + tap} * wide;
            for (int32_t i = 0; i < wide; ++i) y[i] += weights[i] * from[i];
        }
    }
    copy(gated + int64_t{rows} * wide, after, int64_t{past} * wide);
    block.convolution_normalise(convolved, convolved, rows);
    scratch.sigmoid.at_least(int64_t{rows} * wide);
    multiply_by_sigmoid(convolved, convolved, rows * wide, scratch.sigmoid.data());
    block.convolution_output(convolved, scratch.narrow.data(), rows, threads);
    add(scratch.narrow.data(), 1, x, rows * wide);
}

}  // namespace cspbench
