// One utterance being heard: samples in, labels out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fbank.hpp"
#include "network.hpp"

namespace cspbench {

class StateReader;

// To be used by one thread at a time. Whatever the pieces in which samples arrive, the labels are the same.
class Stream {
public:
    explicit Stream(std::shared_ptr<const Network> network);

    const Network& network() const { return *network_; }
    int64_t steps() const { return steps_; }
    bool finished() const { return finished_; }

    // Samples at the front end's rate in [-1, 1]: labels they complete. Throws std::invalid_argument for samples that are not
    // finite or far out of range (nothing is consumed then), and std::logic_error after finish().
    std::vector<int32_t> accept(const float* samples, int64_t count);
    // Log-mel features (frames, mels) instead of samples; a stream takes one or the other.
    std::vector<int32_t> accept_features(const float* features, int64_t frames);
    // The end: a rest that fills no window or no step is dropped, as batch decoding drops it.
    void finish() { finished_ = true; }
    void reset();

    // Everything about the stream, to go on from later, also elsewhere and in the middle of a step.
    std::string state() const;
    // Throws std::invalid_argument, the stream being unchanged, for what is no state of a stream of this network's shape.
    void restore(const std::string& bytes);

    // Feeds samples[i] to streams[i], stepping those that have a step ready together; labels of each. All streams share one
    // network, and none is there twice.
    static std::vector<std::vector<int32_t>> advance(const std::vector<Stream*>& streams, const std::vector<const float*>& samples,
                                                     const std::vector<int64_t>& counts);

private:
    void check_samples(const float* samples, int64_t count) const;
    void check_open() const;
    bool take_frames();
    void read_samples(StateReader& reader);
    float* end_of_frames() { return stacked_.data() + int64_t{frames_} * network_->mels(); }

    std::shared_ptr<const Network> network_;
    Samples samples_;
    Buffer stacked_;      // (stack, mels) of the step under way
    int32_t frames_ = 0;  // of them present
    DecoderState decoder_;
    int64_t steps_ = 0;
    bool finished_ = false;
};

}  // namespace cspbench
