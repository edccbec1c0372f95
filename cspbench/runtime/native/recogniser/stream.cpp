#include "recogniser/stream.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "base/denormals.hpp"

namespace cspbench {

class StateReader {
public:
    StateReader(const char* bytes, size_t count) : at_(bytes), end_(bytes + count) {}

    template <typename T>
    T value() {
        T value;
        memcpy(&value, take(sizeof value), sizeof value);
        return value;
    }
    // As many floats as are expected.
    void floats(float* data, int64_t count) {
        if (value<int64_t>() != count) fail();
        const char* from = take(static_cast<size_t>(count) * sizeof(float));
        if (count > 0) memcpy(data, from, static_cast<size_t>(count) * sizeof(float));
        for (int64_t i = 0; i < count; ++i) {
            if (!std::isfinite(data[i])) fail();
        }
    }
    void end() const {
        if (at_ != end_) fail();
    }
    [[noreturn]] static void fail() {
        throw std::invalid_argument("this is no state of a stream, or it has been damaged");
    }

private:
    const char* take(size_t count) {
        if (static_cast<size_t>(end_ - at_) < count) fail();
        const char* taken = at_;
        at_ += count;
        return taken;
    }

    const char* at_;
    const char* end_;
};

namespace {

// Louder than any recording, even one mixed beyond full scale, and quieter than 16-bit samples that nobody has scaled.
constexpr float kLoudest = 64.0f;
// Samples are consumed in chunks, so that an hour given at once is not copied as a whole.
constexpr int64_t kChunk = 16384;
// More than any stream has taken; the count must not overflow.
constexpr int64_t kMostSteps = int64_t{1} << 53;

constexpr char kMagic[8] = {'C', 'S', 'P', 'S', 'T', 'R', 'M', '2'};
constexpr uint32_t kEndian = 0x01020304;

uint64_t checksum(const char* bytes, size_t count) {  // FNV-1a
    uint64_t hash = 14695981039346656037ull;
    for (size_t i = 0; i < count; ++i) hash = (hash ^ static_cast<unsigned char>(bytes[i])) * 1099511628211ull;
    return hash;
}

class Writer {
public:
    template <typename T>
    void value(T value) {
        bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    void floats(const float* data, int64_t count) {
        value(count);
        bytes_.append(reinterpret_cast<const char*>(data), static_cast<size_t>(count) * sizeof(float));
    }
    std::string& bytes() { return bytes_; }

private:
    std::string bytes_;
};

void write(Writer& writer, const Lstm& lstm, const LstmState& state) {
    for (int layer = 0; layer < lstm.layers(); ++layer) {
        writer.floats(lstm.hidden(state, layer), lstm.width_of(layer));
        writer.floats(state.cell[static_cast<size_t>(layer)].data(), lstm.width_of(layer));
    }
}

void read(StateReader& reader, const Lstm& lstm, LstmState& state) {
    for (int layer = 0; layer < lstm.layers(); ++layer) {
        reader.floats(lstm.hidden(state, layer), lstm.width_of(layer));
        reader.floats(state.cell[static_cast<size_t>(layer)].data(), lstm.width_of(layer));
    }
}

}  // namespace

Stream::Stream(std::shared_ptr<const Network> network)
    : network_(std::move(network)), stacked_(network_->inputs()), decoder_(network_->start()) {}

void Stream::reset() {
    samples_.clear();
    level_ = {};
    frames_ = 0;
    decoder_ = network_->start();
    steps_ = 0;
    finished_ = false;
}

void Stream::check_open() const {
    if (finished_) throw std::logic_error("the stream has been finished; reset() begins another utterance");
}

void Stream::check_samples(const float* samples, int64_t count) const {
    bool quiet = true;  // false for NaN as well
    for (int64_t i = 0; i < count; ++i) quiet &= std::fabs(samples[i]) <= kLoudest;
    if (!quiet) {
        throw std::invalid_argument("samples must be finite and lie in [-1, 1]; divide 16-bit samples by 32768");
    }
}

// Turns samples into frames until a step is complete (true) or no window is full.
bool Stream::take_frames() {
    const FrontEnd& front = *network_->front_end();
    while (frames_ < network_->stack()) {
        if (samples_.count() < front.window()) return false;
        front.frame(samples_.data(), end_of_frames());
        front.relate(level_, end_of_frames());
        samples_.drop(front.hop());
        ++frames_;
    }
    return true;
}

// Takes from the samples given until a step is complete (true) or none are left.
bool Stream::take_step(const float*& samples, int64_t& count) {
    bool ready = take_frames();
    while (!ready && count > 0) {
        const int64_t chunk = std::min(kChunk, count);
        samples_.append(samples, chunk);
        samples += chunk;
        count -= chunk;
        ready = take_frames();
    }
    if (!ready) return false;
    frames_ = 0;
    ++steps_;
    return true;
}

std::vector<int32_t> Stream::accept(const float* samples, int64_t count) {
    Chunk chunk{this, samples, count, {}};
    advance(&chunk, 1);
    return std::move(chunk.labels);
}

void Stream::advance(Chunk* chunks, size_t count) {
    const std::shared_ptr<const Network> network = chunks[0].stream->network_;
    if (!network->front_end()) throw std::invalid_argument("a network without a front end takes features, not samples");
    for (size_t i = 0; i < count; ++i) {
        const Stream& stream = *chunks[i].stream;
        if (stream.network_ != network) throw std::invalid_argument("streams that advance together share one network");
        stream.check_open();
        stream.check_samples(chunks[i].samples, chunks[i].count);
    }
    const FlushDenormals flush;
    thread_local std::vector<DecoderState*> states;
    thread_local std::vector<float*> rows;
    thread_local std::vector<std::vector<int32_t>*> labels;
    do {
        states.clear(), rows.clear(), labels.clear();
        for (size_t i = 0; i < count; ++i) {
            Chunk& chunk = chunks[i];
            if (!chunk.stream->take_step(chunk.samples, chunk.count)) continue;
            states.push_back(&chunk.stream->decoder_);
            rows.push_back(chunk.stream->stacked_.data());
            labels.push_back(&chunk.labels);
        }
        if (!states.empty()) network->step(states.data(), rows.data(), labels.data(), static_cast<int>(states.size()));
    } while (!states.empty());
}

std::vector<int32_t> Stream::accept_features(const float* features, int64_t frames) {
    check_open();
    const int64_t mels = network_->mels();
    for (int64_t i = 0; i < frames * mels; ++i) {
        if (!std::isfinite(features[i])) throw std::invalid_argument("features must be finite");
    }
    const FlushDenormals flush;
    std::vector<int32_t> emitted;
    std::vector<int32_t>* labels = &emitted;
    DecoderState* state = &decoder_;
    float* row = stacked_.data();
    for (int64_t frame = 0; frame < frames; ++frame) {
        memcpy(end_of_frames(), features + frame * mels, static_cast<size_t>(mels) * sizeof(float));
        if (++frames_ < network_->stack()) continue;
        frames_ = 0;
        ++steps_;
        network_->step(&state, &row, &labels, 1);
    }
    return emitted;
}

std::string Stream::state() const {
    Writer writer;
    writer.bytes().assign(kMagic, sizeof kMagic);
    writer.value(kEndian);
    const std::vector<int32_t> shape = network_->shape();
    writer.value(static_cast<int64_t>(shape.size()));
    for (int32_t extent : shape) writer.value(extent);
    writer.value(steps_);
    writer.value(static_cast<int32_t>(finished_));
    writer.value(frames_);
    writer.value(level_.reference);
    writer.value(level_.background);
    writer.floats(stacked_.data(), int64_t{frames_} * network_->mels());
    const int64_t waiting = samples_.count();
    writer.value(waiting);
    writer.floats(waiting > 0 ? samples_.data() : nullptr, std::max<int64_t>(waiting, 0));
    write(writer, network_->encoder(), decoder_.encoder);
    write(writer, network_->prediction(), decoder_.prediction);
    writer.floats(decoder_.predicted.data(), decoder_.predicted.count());
    writer.value(checksum(writer.bytes().data(), writer.bytes().size()));
    return std::move(writer.bytes());
}

void Stream::read_samples(StateReader& reader) {
    const auto count = reader.value<int64_t>();
    const FrontEnd* front = network_->front_end();
    const int64_t most = front ? front->window() - 1 : 0, least = front ? -front->hop() : 0;
    if (count < least || count > most) StateReader::fail();
    std::vector<float> samples(static_cast<size_t>(std::max<int64_t>(count, 0)));
    reader.floats(samples.data(), static_cast<int64_t>(samples.size()));
    check_samples(samples.data(), static_cast<int64_t>(samples.size()));
    samples_.append(samples.data(), static_cast<int64_t>(samples.size()));
    samples_.drop(std::max<int64_t>(-count, 0));
}

void Stream::restore(const std::string& bytes) {
    constexpr size_t tail = sizeof(uint64_t);
    if (bytes.size() < sizeof kMagic + tail || memcmp(bytes.data(), kMagic, sizeof kMagic) != 0) StateReader::fail();
    StateReader last(bytes.data() + bytes.size() - tail, tail);
    if (last.value<uint64_t>() != checksum(bytes.data(), bytes.size() - tail)) StateReader::fail();
    StateReader reader(bytes.data() + sizeof kMagic, bytes.size() - sizeof kMagic - tail);
    if (reader.value<uint32_t>() != kEndian) {
        throw std::invalid_argument("this state was saved on a machine with another order of bytes");
    }
    const std::vector<int32_t> shape = network_->shape();
    bool same = reader.value<int64_t>() == static_cast<int64_t>(shape.size());
    for (size_t i = 0; same && i < shape.size(); ++i) same = reader.value<int32_t>() == shape[i];
    if (!same) throw std::invalid_argument("this state is of a network of another shape");
    Stream read_into(network_);
    read_into.steps_ = reader.value<int64_t>();
    read_into.finished_ = reader.value<int32_t>() != 0;
    read_into.frames_ = reader.value<int32_t>();
    if (read_into.steps_ < 0 || read_into.steps_ > kMostSteps) StateReader::fail();
    if (read_into.frames_ < 0 || read_into.frames_ >= network_->stack()) StateReader::fail();
    read_into.level_.reference = reader.value<double>();
    read_into.level_.background = reader.value<double>();
    if (std::isnan(read_into.level_.reference) || std::isnan(read_into.level_.background)) StateReader::fail();
    reader.floats(read_into.stacked_.data(), int64_t{read_into.frames_} * network_->mels());
    read_into.read_samples(reader);
    read(reader, network_->encoder(), read_into.decoder_.encoder);
    read(reader, network_->prediction(), read_into.decoder_.prediction);
    reader.floats(read_into.decoder_.predicted.data(), read_into.decoder_.predicted.count());
    reader.end();
    *this = std::move(read_into);
}

}  // namespace cspbench
