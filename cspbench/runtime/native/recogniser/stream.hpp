// Decoding of one utterance: samples in, labels out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "recogniser/front_end.hpp"
#include "recogniser/network.hpp"

namespace cspbench {

class StateReader;

// To be used by one thread at a time. The labels do not depend on how the samples are cut into chunks.
class Stream {
public:
    explicit Stream(std::shared_ptr<const Network> network);

    const Network& network() const { return *network_; }
    int64_t steps() const { return steps_; }
    bool finished() const { return finished_; }

    // Samples at the front end's rate in [-1, 1]: labels they complete. Throws std::invalid_argument for samples that
    // are not finite or far out of range (nothing is consumed then), and std::logic_error after finish().
    std::vector<int32_t> accept(const float* samples, int64_t count);
    // Log-mel features (frames, mels) instead of samples; a stream takes one or the other.
    std::vector<int32_t> accept_features(const float* features, int64_t frames);
    // The end: a rest that fills no window or no step is dropped, as batch decoding drops it.
    void finish() { finished_ = true; }
    void reset();

    // Everything about the stream, to go on from later, also elsewhere and in the middle of a step.
    std::string state() const;
    // Throws std::invalid_argument, the stream unchanged, for what is no state of a stream of this network's shape.
    void restore(const std::string& bytes);

    // The next samples of one of several streams, and the labels decoded from them; advance() moves `samples` on.
    struct Chunk {
        Stream* stream;
        const float* samples;
        int64_t count;
        std::vector<int32_t> labels;
    };
    // accept() for `count` >= 1 streams of one network, none there twice: those that have a step ready take it as one.
    static void advance(Chunk* chunks, size_t count);

private:
    void check_samples(const float* samples, int64_t count) const;
    void check_open() const;
    bool take_frames();
    bool take_step(const float*& samples, int64_t& count);
    void read_samples(StateReader& reader);
    float* end_of_frames() { return stacked_.data() + int64_t{frames_} * network_->mels(); }

    std::shared_ptr<const Network> network_;
    Samples samples_;
    Level level_;
    Buffer stacked_;      // (stack, mels) of the step under way
    int32_t frames_ = 0;  // of them present
    DecoderState decoder_;
    int64_t steps_ = 0;
    bool finished_ = false;
};

}  // namespace cspbench
