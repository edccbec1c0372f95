// Log-mel energies as Kaldi computes them (dither 0, mean removed, pre-emphasis, Povey window, whole windows only, power
// spectrum), frame by frame: a frame depends on its own window of samples and on nothing else.
#pragma once

#include <cstdint>
#include <vector>

#include "floats.hpp"

namespace cspbench {

// What the transform of a window reads: plain data for the files that are compiled for an instruction set.
struct FrameTables {
    int32_t window;   // samples of a frame
    int32_t points;   // of the complex transform: half the power of two that holds the window
    int32_t bins;     // mel bins
    const float* shape;       // (window,), times the scale of samples
    const float* twiddles;    // of all radix-4 passes; see transform() in fbank_loops.hpp
    const float* split;       // cos and sin of 2 pi k / (2 points), (2, points / 2 + 1)
    // Each mel bin is a few spectrum bins from first[bin] on, weighted; counts are multiples of kMelLanes, zero weights behind.
    const int32_t* first;     // (bins,)
    const int32_t* start;     // (bins + 1,) into weights
    const float* weights;
};

constexpr int32_t kMelLanes = 8;
// Floats of scratch that mel_energies wants: two complex signals, and the power spectrum with room behind.
constexpr int64_t scratch_floats(int32_t points) { return 6 * static_cast<int64_t>(points) + 2 * kMelLanes; }

class FrontEnd {
public:
    // Throws std::invalid_argument for what cannot be (a mel bin that holds no frequency of the spectrum, ...).
    FrontEnd(int32_t sample_rate, float window_ms, float hop_ms, int32_t mels);

    int32_t sample_rate() const { return sample_rate_; }
    int32_t window() const { return tables_.window; }
    int32_t hop() const { return hop_; }
    int32_t mels() const { return tables_.bins; }

    // Samples (window(),) in [-1, 1] -> log-mel energies (mels(),).
    void frame(const float* samples, float* log_mel) const;

    FrontEnd(const FrontEnd&) = delete;
    FrontEnd& operator=(const FrontEnd&) = delete;

private:
    void make_twiddles();
    void make_mel_bins();

    int32_t sample_rate_;
    int32_t hop_;
    FrameTables tables_;
    std::vector<float> shape_, twiddles_, split_, weights_;
    std::vector<int32_t> first_, start_;
};

// The samples of one stream that no frame has used up yet.
class Samples {
public:
    void append(const float* samples, int64_t count) { kept_.insert(kept_.end(), samples, samples + count); }
    int64_t count() const { return static_cast<int64_t>(kept_.size()) - used_; }
    const float* data() const { return kept_.data() + used_; }
    void drop(int64_t count);
    void clear();

private:
    std::vector<float> kept_;
    int64_t used_ = 0;
};

}  // namespace cspbench
