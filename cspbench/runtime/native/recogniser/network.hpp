// The recogniser as one immutable value: front end, encoder, prediction network, joint. Streams (stream.hpp) share it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "matrix/matrix.hpp"
#include "recogniser/front_end.hpp"
#include "recogniser/lstm.hpp"

namespace cspbench {

// Everything that decoding one stream remembers, but for its samples.
struct DecoderState {
    LstmState encoder, prediction;
    Buffer predicted;  // (joint width,): what the joint takes of the prediction network after the last label
};

// Buffers of decoding; one for each thread that decodes.
struct DecoderScratch {
    Scratch lstm;
    Buffer gathered, encoded, activated, logits;
    std::vector<int> active;
    std::vector<int32_t> labels;
    std::vector<LstmState*> states;
    std::vector<const float*> rows;
};

class Network {
public:
    struct Parts {
        std::shared_ptr<const FrontEnd> front_end;  // null: features only
        std::vector<float> mean, scale;             // (mels,) of the training set
        int32_t stack;                              // frames joined into one step
        Lstm encoder;
        std::vector<float> embedding;  // (units, prediction inputs)
        Lstm prediction;
        Affine joint_encoder, joint_prediction, joint_output;
        int32_t max_symbols;  // labels in one step at most
        int32_t blank;
        int32_t threads;
    };

    // Throws std::invalid_argument where the parts do not fit each other.
    explicit Network(Parts parts);

    const FrontEnd* front_end() const { return parts_.front_end.get(); }
    int32_t mels() const { return static_cast<int32_t>(parts_.mean.size()); }
    int32_t stack() const { return parts_.stack; }
    int32_t inputs() const { return mels() * stack(); }
    int32_t units() const { return parts_.joint_output.outputs(); }
    int32_t joint_width() const { return parts_.joint_output.inputs(); }
    const Lstm& encoder() const { return parts_.encoder; }
    const Lstm& prediction() const { return parts_.prediction; }
    // Sizes that a saved state has to agree with.
    std::vector<int32_t> shape() const;

    // Of an utterance that begins: the prediction network has seen the blank.
    const DecoderState& start() const { return start_; }

    // One step for each of `batch` streams: stacked log-mel features x[b] (inputs(),), normalised in place; new labels
    // are appended to emitted[b].
    void step(DecoderState* const* states, float* const* x, std::vector<int32_t>* const* emitted, int batch) const;

private:
    void check() const;
    void normalise(float* x) const;
    void encode(DecoderState* const* states, float* const* x, int batch, DecoderScratch& scratch) const;
    bool emit(DecoderState* const* states, std::vector<int32_t>* const* emitted, DecoderScratch& scratch) const;
    void predict(DecoderState* const* states, DecoderScratch& scratch) const;

    Parts parts_;
    DecoderState start_;
};

}  // namespace cspbench
