// Log-mel energies as Kaldi computes them (dither 0, mean removed, pre-emphasis, Povey window, whole windows only,
// power spectrum), frame by frame: a frame depends on its own window of samples and on nothing else.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/loops.hpp"

namespace cspbench {

// How loud an utterance has been, in nats: the reference that its features are relative to, and its quietest frame.
struct Level {
    double reference = -std::numeric_limits<double>::infinity();
    double background = std::numeric_limits<double>::infinity();
};

class FrontEnd {
public:
    // `floor` is added to every mel energy, at Kaldi's 16-bit scale. Without one, energies are cut where Kaldi cuts
    // them. Throws std::invalid_argument for what cannot be (a mel bin that holds no frequency of the spectrum, ...).
    FrontEnd(int32_t sample_rate, float window_ms, float hop_ms, int32_t mels, float floor = 0.0f);

    // Features are relative to a reference level from now on: it follows the loudest frames, falls by `fall` nats a
    // frame at most, and exceeds the quietest frame by `above` at least. With `follow_background` that second part of
    // it falls with the quietest frame at once. As cspbench.corpora.frames.ReferenceLevel.
    void follow_level(double fall, double above, bool follow_background = false);

    int32_t sample_rate() const { return sample_rate_; }
    int32_t window() const { return tables_.window; }
    int32_t hop() const { return hop_; }
    int32_t mels() const { return tables_.bins; }

    // Samples (window(),) in [-1, 1] -> log-mel energies (mels(),).
    void frame(const float* samples, float* log_mel) const;

    // Subtracts the reference level, which the frame moves on; without `follow_level` nothing happens.
    void relate(Level& level, float* log_mel) const;

    FrontEnd(const FrontEnd&) = delete;
    FrontEnd& operator=(const FrontEnd&) = delete;

private:
    void make_twiddles();
    void make_mel_bins();

    int32_t sample_rate_;
    int32_t hop_;
    float floor_;
    bool relative_ = false;
    bool follow_background_ = false;
    double fall_ = 0.0, above_ = 0.0;
    FrameTables tables_;
    std::vector<float> shape_, twiddles_, split_, weights_;
    std::vector<int32_t> first_, start_;
};

// The samples of one stream that no frame has used up yet.
class Samples {
public:
    void append(const float* samples, int64_t count) { kept_.insert(kept_.end(), samples, samples + count); }
    // Negative where hops are longer than windows and samples yet to come are to be dropped.
    int64_t count() const { return static_cast<int64_t>(kept_.size()) - used_; }
    const float* data() const { return kept_.data() + used_; }  // if there are any
    void drop(int64_t count);
    void clear();

private:
    std::vector<float> kept_;
    int64_t used_ = 0;
};

}  // namespace cspbench
