#include "recogniser/front_end.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <stdexcept>
#include <string>

#include "base/buffer.hpp"

namespace cspbench {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr float kLowFrequency = 20.0f;
constexpr float kSampleScale = 32768.0f;  // Kaldi takes samples on the scale of 16-bit audio
constexpr int32_t kLongestWindow = 1 << 16;

float mel_scale(float frequency) { return 1127.0f * std::log(1.0f + frequency / 700.0f); }

// Kaldi's own arithmetic, in single precision and truncating: it decides the lengths at rates such as 11025 Hz.
int32_t samples_of(int32_t sample_rate, float milliseconds) {
    const float samples = static_cast<float>(sample_rate) * 0.001f * milliseconds;
    if (!(samples >= 2.0f && samples <= static_cast<float>(kLongestWindow))) {
        throw std::invalid_argument("the front end takes windows and hops of 2 to " + std::to_string(kLongestWindow) +
                                    " samples, not " + std::to_string(samples));
    }
    return static_cast<int32_t>(samples);
}

}  // namespace

FrontEnd::FrontEnd(int32_t sample_rate, float window_ms, float hop_ms, int32_t mels, float floor)
    : sample_rate_(sample_rate), hop_(samples_of(sample_rate, hop_ms)), floor_(floor) {
    if (!(floor >= 0.0f && floor <= FLT_MAX)) throw std::invalid_argument("the floor must be finite and not negative");
    if (mels < 1 || mels > 1024) throw std::invalid_argument("mel bins must be 1 to 1024");
    tables_.window = samples_of(sample_rate, window_ms);
    tables_.bins = mels;
    tables_.points = 2;
    while (2 * tables_.points < tables_.window) tables_.points *= 2;
    for (int32_t i = 0; i < tables_.window; ++i) {
        const double hann = 0.5 - 0.5 * std::cos(2 * kPi * i / (tables_.window - 1));
        shape_.push_back(static_cast<float>(std::pow(hann, 0.85)) * kSampleScale);
    }
    make_twiddles();
    make_mel_bins();
    tables_.shape = shape_.data();
    tables_.twiddles = twiddles_.data();
    tables_.split = split_.data();
    tables_.first = first_.data();
    tables_.start = start_.data();
    tables_.weights = weights_.data();
}

void FrontEnd::make_twiddles() {
    const auto angle = [](int32_t k, int32_t n) { return -2 * kPi * k / n; };
    const auto cosine = [&](int32_t k, int32_t n) { return static_cast<float>(std::cos(angle(k, n))); };
    const auto sine = [&](int32_t k, int32_t n) { return static_cast<float>(std::sin(angle(k, n))); };
    for (int32_t left = tables_.points; left >= 4; left /= 4) {
        for (int32_t power = 1; power <= 3; ++power) {
            for (int32_t p = 0; p < left / 4; ++p) twiddles_.push_back(cosine(p * power, left));
            for (int32_t p = 0; p < left / 4; ++p) twiddles_.push_back(sine(p * power, left));
        }
    }
    const int32_t half = tables_.points / 2;
    for (int32_t k = 0; k <= half; ++k) split_.push_back(cosine(k, 2 * tables_.points));
    for (int32_t k = 0; k <= half; ++k) split_.push_back(-sine(k, 2 * tables_.points));
}

void FrontEnd::make_mel_bins() {
    const float nyquist = 0.5f * static_cast<float>(sample_rate_);
    if (nyquist <= kLowFrequency) throw std::invalid_argument("the sample rate must be above 40 Hz");
    const float low = mel_scale(kLowFrequency);
    const float delta = (mel_scale(nyquist) - low) / static_cast<float>(tables_.bins + 1);
    const float width = static_cast<float>(sample_rate_) / static_cast<float>(2 * tables_.points);
    start_.push_back(0);
    for (int32_t bin = 0; bin < tables_.bins; ++bin) {
        const float left = low + static_cast<float>(bin) * delta, centre = low + static_cast<float>(bin + 1) * delta,
                    right = low + static_cast<float>(bin + 2) * delta;
        int32_t first = -1;
        for (int32_t i = 0; i < tables_.points; ++i) {
            const float mel = mel_scale(width * static_cast<float>(i));
            if (mel <= left || mel >= right) continue;
            if (first < 0) first = i;
            weights_.push_back(mel <= centre ? (mel - left) / (centre - left) : (right - mel) / (right - centre));
        }
        if (first < 0) {
            throw std::invalid_argument(std::to_string(tables_.bins) + " mel bins are too many for windows of " +
                                        std::to_string(tables_.window) + " samples: bin " + std::to_string(bin) +
                                        " holds no frequency of the spectrum");
        }
        while (weights_.size() % kMelLanes != 0) weights_.push_back(0.0f);
        first_.push_back(first);
        start_.push_back(static_cast<int32_t>(weights_.size()));
    }
}

void FrontEnd::frame(const float* samples, float* log_mel) const {
    thread_local Buffer scratch;
    scratch.at_least(6 * int64_t{tables_.points} + 2 * kMelLanes);
    loops().mel_energies(tables_, samples, scratch.data(), log_mel);
    for (int32_t i = 0; i < tables_.bins; ++i) log_mel[i] += floor_;
    loops().logarithm(log_mel, log_mel, tables_.bins, FLT_EPSILON);  // where Kaldi cuts energies that are no energy
}

void FrontEnd::follow_level(double fall, double above, bool follow_background) {
    if (!(fall >= 0.0 && fall <= 1.0 && above >= 0.0 && above <= 100.0)) {
        throw std::invalid_argument("the reference level falls by 0 to 1 a frame and exceeds the background by 0 to 100");
    }
    relative_ = true;
    fall_ = fall;
    above_ = above;
    follow_background_ = follow_background;
}

void FrontEnd::relate(Level& level, float* log_mel) const {
    if (!relative_) return;
    double sum = 0.0;
    for (int32_t i = 0; i < tables_.bins; ++i) sum += log_mel[i];
    const double mean = sum / tables_.bins;
    level.background = std::min(level.background, mean);
    const double least = level.background + above_;
    level.reference = std::max(mean, level.reference - fall_);
    if (!follow_background_) level.reference = std::max(level.reference, least);
    const double reference = std::max(level.reference, least);
    for (int32_t i = 0; i < tables_.bins; ++i) log_mel[i] = static_cast<float>(log_mel[i] - reference);
}

void Samples::drop(int64_t count) {
    used_ += count;
    // Moved to the front once the used part outweighs the rest, so that each sample is moved about once.
    const auto size = static_cast<int64_t>(kept_.size());
    if (2 * used_ > size) {
        const int64_t gone = std::min(used_, size);
        kept_.erase(kept_.begin(), kept_.begin() + static_cast<ptrdiff_t>(gone));
        used_ -= gone;
    }
}

void Samples::clear() {
    kept_.clear();
    used_ = 0;
}

}  // namespace cspbench
