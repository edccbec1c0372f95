#include "recogniser/network.hpp"

#include <cmath>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/denormals.hpp"
#include "kernels/loops.hpp"

namespace cspbench {
namespace {

DecoderScratch& scratch_of_this_thread() {
    thread_local DecoderScratch scratch;
    return scratch;
}

void agree(int64_t one, int64_t other, const char* what) {
    if (one != other) {
        throw std::invalid_argument(std::string(what) + ": " + std::to_string(one) + " and " + std::to_string(other) +
                                    " do not fit");
    }
}

void all_finite(const std::vector<float>& values, const char* what) {
    for (float value : values) {
        if (!std::isfinite(value)) throw std::invalid_argument(std::string(what) + " holds a value that is not finite");
    }
}

void copy(const float* from, float* to, int64_t count) { memcpy(to, from, static_cast<size_t>(count) * sizeof(float)); }

// The first of the greatest; the first NaN if there is one, as torch has it.
int32_t argmax(const float* x, int32_t count) {
    int32_t best = 0;
    for (int32_t i = 1; i < count && !std::isnan(x[best]); ++i) {
        if (x[i] > x[best] || std::isnan(x[i])) best = i;
    }
    return best;
}

}  // namespace

Network::Network(Parts parts) : parts_(std::move(parts)) {
    check();
    const FlushDenormals flush;
    start_ = {parts_.encoder.start(), parts_.prediction.start(), Buffer(joint_width())};
    DecoderScratch scratch;
    scratch.active = {0};
    scratch.labels = {parts_.blank};
    DecoderState* only = &start_;
    predict(&only, scratch);
}

void Network::check() const {
    const Parts& p = parts_;
    if (p.stack < 1 || p.stack > 1024) throw std::invalid_argument("a step takes 1 to 1024 frames");
    if (p.max_symbols < 1) throw std::invalid_argument("max_symbols must be at least 1");
    if (p.threads < 1) throw std::invalid_argument("threads must be at least 1");
    if (p.blank < 0 || p.blank >= units()) throw std::invalid_argument("the blank is none of the joint's outputs");
    agree(static_cast<int64_t>(p.mean.size()), static_cast<int64_t>(p.scale.size()), "mean and scale of the features");
    if (p.front_end) agree(p.front_end->mels(), mels(), "mel bins of the front end and of the mean");
    agree(p.encoder.inputs(), static_cast<int64_t>(p.mean.size()) * p.stack, "inputs of the encoder and mels x stack");
    agree(static_cast<int64_t>(p.embedding.size()), int64_t{units()} * p.prediction.inputs(),
          "values of the embedding and units x inputs of the prediction network");
    agree(p.joint_encoder.inputs(), p.encoder.outputs(), "inputs of joint_encoder and outputs of the encoder");
    agree(p.joint_prediction.inputs(), p.prediction.outputs(),
          "inputs of joint_prediction and outputs of the prediction network");
    agree(p.joint_encoder.outputs(), joint_width(), "outputs of joint_encoder and inputs of joint_output");
    agree(p.joint_prediction.outputs(), joint_width(), "outputs of joint_prediction and inputs of joint_output");
    all_finite(p.mean, "the mean of the features");
    all_finite(p.scale, "the scale of the features");
    all_finite(p.embedding, "the embedding");
}

std::vector<int32_t> Network::shape() const {
    std::vector<int32_t> shape{mels(), stack(), units(), joint_width(), parts_.blank, parts_.max_symbols};
    if (const FrontEnd* front = front_end()) {
        shape.insert(shape.end(), {front->sample_rate(), front->window(), front->hop()});
    }
    for (const Lstm* lstm : {&parts_.encoder, &parts_.prediction}) {
        shape.push_back(lstm->inputs());
        for (int layer = 0; layer < lstm->layers(); ++layer) shape.push_back(lstm->width_of(layer));
    }
    return shape;
}

void Network::normalise(float* x) const {
    for (int32_t frame = 0; frame < stack(); ++frame, x += mels()) {
        for (size_t mel = 0; mel < parts_.mean.size(); ++mel) x[mel] = (x[mel] - parts_.mean[mel]) * parts_.scale[mel];
    }
}

void Network::step(DecoderState* const* states, float* const* x, std::vector<int32_t>* const* emitted,
                   int batch) const {
    DecoderScratch& scratch = scratch_of_this_thread();
    encode(states, x, batch, scratch);
    scratch.active.resize(static_cast<size_t>(batch));
    std::iota(scratch.active.begin(), scratch.active.end(), 0);
    for (int32_t symbol = 0; symbol < parts_.max_symbols; ++symbol) {
        if (!emit(states, emitted, scratch)) return;
        predict(states, scratch);
    }
}

// Leaves what the joint takes of each stream's encoder in scratch.encoded (batch, joint width).
void Network::encode(DecoderState* const* states, float* const* x, int batch, DecoderScratch& scratch) const {
    scratch.states.clear();
    scratch.rows.clear();
    for (int b = 0; b < batch; ++b) {
        normalise(x[b]);
        scratch.states.push_back(&states[b]->encoder);
        scratch.rows.push_back(x[b]);
    }
    const Lstm& encoder = parts_.encoder;
    encoder.step(scratch.states.data(), scratch.rows.data(), batch, parts_.threads, scratch.lstm);
    const int64_t width = encoder.outputs();
    scratch.gathered.at_least(batch * width);
    for (int b = 0; b < batch; ++b) {
        copy(encoder.output(states[b]->encoder), scratch.gathered.data() + b * width, width);
    }
    scratch.encoded.at_least(int64_t{batch} * joint_width());
    parts_.joint_encoder(scratch.gathered.data(), scratch.encoded.data(), batch, parts_.threads);
}

// Each active stream's best label; those whose best is the blank are done with this step. False when none is left.
bool Network::emit(DecoderState* const* states, std::vector<int32_t>* const* emitted, DecoderScratch& scratch) const {
    const int64_t width = joint_width();
    const int batch = static_cast<int>(scratch.active.size());
    scratch.activated.at_least(batch * width);
    scratch.logits.at_least(int64_t{batch} * units());
    const Loops& all = loops();
    for (int row = 0; row < batch; ++row) {
        const int b = scratch.active[static_cast<size_t>(row)];
        all.tanh_of_sum(scratch.encoded.data() + b * width, states[b]->predicted.data(),
                        scratch.activated.data() + row * width, static_cast<int32_t>(width));
    }
    parts_.joint_output(scratch.activated.data(), scratch.logits.data(), batch, parts_.threads);
    scratch.labels.clear();
    for (int row = 0; row < batch; ++row) {
        const int32_t best = argmax(scratch.logits.data() + int64_t{row} * units(), units());
        if (best == parts_.blank) continue;
        const int b = scratch.active[static_cast<size_t>(row)];
        scratch.active[scratch.labels.size()] = b;  // not ahead of `row`
        scratch.labels.push_back(best);
        emitted[b]->push_back(best);
    }
    scratch.active.resize(scratch.labels.size());
    return !scratch.active.empty();
}

// Shows each active stream's new label to its prediction network.
void Network::predict(DecoderState* const* states, DecoderScratch& scratch) const {
    const Lstm& prediction = parts_.prediction;
    const int64_t inputs = prediction.inputs(), width = prediction.outputs(), joint = joint_width();
    const int batch = static_cast<int>(scratch.active.size());
    scratch.states.clear();
    scratch.rows.clear();
    for (int row = 0; row < batch; ++row) {
        const auto index = static_cast<size_t>(row);
        scratch.states.push_back(&states[scratch.active[index]]->prediction);
        scratch.rows.push_back(parts_.embedding.data() + scratch.labels[index] * inputs);
    }
    prediction.step(scratch.states.data(), scratch.rows.data(), batch, parts_.threads, scratch.lstm);
    scratch.gathered.at_least(batch * width);
    for (int row = 0; row < batch; ++row) {
        const LstmState& state = *scratch.states[static_cast<size_t>(row)];
        copy(prediction.output(state), scratch.gathered.data() + row * width, width);
    }
    scratch.activated.at_least(batch * joint);
    parts_.joint_prediction(scratch.gathered.data(), scratch.activated.data(), batch, parts_.threads);
    for (int row = 0; row < batch; ++row) {
        DecoderState& state = *states[scratch.active[static_cast<size_t>(row)]];
        copy(scratch.activated.data() + row * joint, state.predicted.data(), joint);
    }
}

}  // namespace cspbench
