#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <optional>
#include <stdexcept>
#include <utility>

#include "base/denormals.hpp"
#include "base/timing.hpp"
#include "kernels/loops.hpp"
#include "python/bind.hpp"
#include "recogniser/stream.hpp"

namespace cspbench {
namespace {

std::vector<float> vector_of(const Floats& x) { return {x.data(), x.data() + x.size()}; }

void check_last(const Floats& x, size_t ndim, int32_t extent, const char* what) {
    if (x.ndim() != ndim || x.shape(ndim - 1) != static_cast<size_t>(extent)) {
        const std::string size = std::to_string(extent);
        const std::string shape = ndim == 2 ? "(T, " + size + ")" : "(" + size + ",)";
        throw std::invalid_argument(what + std::string(" must be ") + shape);
    }
}

// ---- objects that one thread uses at a time

// Says so instead of mixing up the states of two callers: native code runs without Python's lock.
class Use {
public:
    explicit Use(std::atomic<bool>& busy) : busy_(&busy) {
        if (busy.exchange(true)) throw std::runtime_error("a stream is used once at a time; make one for each thread");
    }
    Use(Use&& other) noexcept : busy_(std::exchange(other.busy_, nullptr)) {}
    ~Use() {
        if (busy_) busy_->store(false);
    }
    Use& operator=(Use&&) = delete;

private:
    std::atomic<bool>* busy_;
};

// ---- Lstm

std::vector<Lstm::Layer> layers_of(const nb::list& given) {
    std::vector<Lstm::Layer> layers;
    for (nb::handle each : given) {
        const auto pair = nb::cast<nb::tuple>(each);
        layers.push_back({nb::cast<const Matrix&>(pair[0]), vector_of(nb::cast<Floats>(pair[1]))});
    }
    return layers;
}

// A stack of layers with the state of one stream.
struct PythonLstm {
    PythonLstm(const nb::list& layers, int threads) : lstm(layers_of(layers)), state(lstm.start()), threads(threads) {
        check_threads(threads);
    }

    const float* step(const float* x) {
        LstmState* only = &state;
        lstm.step(&only, &x, 1, threads, scratch);
        return lstm.output(state);
    }

    Lstm lstm;
    LstmState state;
    Scratch scratch;
    int threads;
    std::atomic<bool> busy{false};
};

nb::object lstm_run(PythonLstm& self, const Floats& x, size_t ndim) {
    check_last(x, ndim, self.lstm.inputs(), "x");
    const size_t steps = ndim == 2 ? x.shape(0) : 1, width = static_cast<size_t>(self.lstm.outputs());
    auto* y = new float[steps * width];
    nb::object array = ndim == 2 ? owned_array(y, {steps, width}) : owned_array(y, {width});
    const Use use(self.busy);
    nb::gil_scoped_release release;
    const FlushDenormals flush;
    for (size_t t = 0; t < steps; ++t) {
        const float* output = self.step(x.data() + t * static_cast<size_t>(self.lstm.inputs()));
        std::copy(output, output + width, y + t * width);
    }
    return array;
}

// Uniform in [-1, 1), the same everywhere for the same seed.
class Noise {
public:
    explicit Noise(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 0x2545F4914F6CDD1Du) {}
    float operator()() {
        state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
        return static_cast<float>(static_cast<int32_t>(state_ >> 32)) * 0x1p-31f;
    }

private:
    uint64_t state_;
};

nb::object lstm_time(PythonLstm& self, int steps, size_t evicted, uint64_t seed) {
    if (steps < 1) throw std::invalid_argument("steps must be at least 1");
    auto* times = new double[static_cast<size_t>(steps)];
    nb::object array = owned_array(times, {static_cast<size_t>(steps)});
    const Use use(self.busy);
    nb::gil_scoped_release release;
    const FlushDenormals flush;
    Noise noise(seed);
    std::vector<float> x(static_cast<size_t>(self.lstm.inputs()));
    for (int t = 0; t < steps; ++t) {
        for (float& value : x) value = noise();
        if (evicted) evict(evicted);
        const auto before = Clock::now();
        self.step(x.data());
        times[t] = seconds(Clock::now() - before);
    }
    return array;
}

void lstm_reset(PythonLstm& self) {
    const Use use(self.busy);
    self.state = self.lstm.start();
}

// ---- front end

nb::object frames_of(const FrontEnd& front, const Floats& samples) {
    if (samples.ndim() != 1) throw std::invalid_argument("samples must be (N,)");
    const auto count = static_cast<int64_t>(samples.shape(0)), window = int64_t{front.window()};
    const auto frames = static_cast<size_t>(count < window ? 0 : (count - window) / front.hop() + 1);
    const auto mels = static_cast<size_t>(front.mels());
    auto* y = new float[frames * mels];
    nb::object array = owned_array(y, {frames, mels});
    nb::gil_scoped_release release;
    const FlushDenormals flush;
    const auto hop = static_cast<size_t>(front.hop());
    Level level;
    for (size_t i = 0; i < frames; ++i) {
        front.frame(samples.data() + i * hop, y + i * mels);
        front.relate(level, y + i * mels);
    }
    return array;
}

// ---- network and streams

std::shared_ptr<Network> make_network(const nb::list& encoder, const Floats& embedding, const nb::list& prediction,
                                      const nb::tuple& joint_encoder, const Matrix& joint_prediction,
                                      const nb::tuple& joint_output, const Floats& mean, const Floats& scale,
                                      int32_t stack, std::shared_ptr<FrontEnd> front_end, int32_t max_symbols,
                                      int32_t blank, int threads) {
    check_threads(threads);
    const auto affine = [](const nb::tuple& pair) {
        return Affine(nb::cast<const Matrix&>(pair[0]), vector_of(nb::cast<Floats>(pair[1])));
    };
    return std::make_shared<Network>(
        Network::Parts{std::move(front_end), vector_of(mean), vector_of(scale), stack, Lstm(layers_of(encoder)),
                       vector_of(embedding), Lstm(layers_of(prediction)), affine(joint_encoder),
                       Affine(joint_prediction, {}), affine(joint_output), max_symbols, blank, threads});
}

struct PythonStream {
    explicit PythonStream(std::shared_ptr<Network> network) : stream(std::move(network)) {}

    Stream stream;
    std::atomic<bool> busy{false};
};

const float* samples_of(const Floats& samples) {
    if (samples.ndim() != 1) throw std::invalid_argument("samples must be (N,), one channel");
    return samples.data();
}

std::vector<int32_t> stream_accept(PythonStream& self, const Floats& samples) {
    const float* data = samples_of(samples);
    const Use use(self.busy);
    nb::gil_scoped_release release;
    return self.stream.accept(data, static_cast<int64_t>(samples.shape(0)));
}

std::vector<int32_t> stream_accept_features(PythonStream& self, const Floats& features) {
    check_last(features, 2, self.stream.network().mels(), "features");
    const Use use(self.busy);
    nb::gil_scoped_release release;
    return self.stream.accept_features(features.data(), static_cast<int64_t>(features.shape(0)));
}

nb::object stream_time(PythonStream& self, const Floats& samples, int64_t chunk, size_t evicted) {
    const float* data = samples_of(samples);
    if (chunk < 1) throw std::invalid_argument("chunk must be at least 1");
    const auto count = static_cast<int64_t>(samples.shape(0)), chunks = count / chunk;
    auto* times = new double[static_cast<size_t>(chunks)];
    nb::object array = owned_array(times, {static_cast<size_t>(chunks)});
    const Use use(self.busy);
    nb::gil_scoped_release release;
    for (int64_t i = 0; i < chunks; ++i) {
        if (evicted) evict(evicted);
        const auto before = Clock::now();
        self.stream.accept(data + i * chunk, chunk);
        times[i] = seconds(Clock::now() - before);
    }
    return array;
}

nb::bytes stream_state(PythonStream& self) {
    const Use use(self.busy);
    const std::string state = self.stream.state();
    return nb::bytes(state.data(), state.size());
}

void stream_restore(PythonStream& self, const nb::bytes& state) {
    const Use use(self.busy);
    self.stream.restore({state.c_str(), state.size()});
}

std::vector<std::vector<int32_t>> advance(const std::vector<PythonStream*>& streams,
                                          const std::vector<Floats>& samples) {
    if (streams.size() != samples.size()) throw std::invalid_argument("each stream takes one chunk of samples");
    std::vector<Use> uses;
    std::vector<Stream::Chunk> chunks;
    for (size_t i = 0; i < streams.size(); ++i) {
        if (!streams[i]) throw std::invalid_argument("None is no stream");
        uses.emplace_back(streams[i]->busy);
        chunks.push_back({&streams[i]->stream, samples_of(samples[i]), static_cast<int64_t>(samples[i].shape(0)), {}});
    }
    std::vector<std::vector<int32_t>> emitted;
    nb::gil_scoped_release release;
    if (!chunks.empty()) Stream::advance(chunks.data(), chunks.size());
    for (Stream::Chunk& chunk : chunks) emitted.push_back(std::move(chunk.labels));
    return emitted;
}

// ---- elementwise, for tests

nb::object elementwise(const std::string& name, const Floats& x) {
    const Loops& all = loops();
    const auto function = name == "exponential" ? all.exponential
                          : name == "sigmoid"   ? all.sigmoid
                          : name == "tanh"      ? all.tanh
                                                : nullptr;
    if (!function && name != "logarithm") throw std::invalid_argument("there is no elementwise \"" + name + "\"");
    auto* y = new float[x.size()];
    nb::object array = owned_array(y, {x.size()});
    const FlushDenormals flush;
    const auto count = static_cast<int32_t>(x.size());
    if (function)
        function(x.data(), y, count);
    else
        all.logarithm(x.data(), y, count, 1.17549435e-38f);
    return array;
}

}  // namespace

void bind_network(nb::module_& module) {
    using namespace nb::literals;
    module.def("elementwise", elementwise, "name"_a, "x"_a,
               "exponential, sigmoid, tanh or logarithm of float32 values, as the engine computes them.");
    nb::class_<PythonLstm>(module, "Lstm", "A stack of LSTM layers on packed weights, and the state of one stream.")
        .def(nb::init<const nb::list&, int>(), "layers"_a, "threads"_a = 1,
             "Layers are pairs: Matrix (4 H, in + H), input and recurrent weights side by side with gates i f g o; and "
             "a bias (4 H,). ValueError where they do not fit.")
        .def(
            "step", [](PythonLstm& self, const Floats& x) { return lstm_run(self, x, 1); }, "x"_a, "(C,) -> (H,)")
        .def(
            "run", [](PythonLstm& self, const Floats& x) { return lstm_run(self, x, 2); }, "x"_a, "(T, C) -> (T, H)")
        .def("reset", lstm_reset, "Back to zero states.")
        .def("time", lstm_time, "steps"_a, "evict"_a = 0, "seed"_a = 0,
             "Seconds of each of so many steps on random inputs, looped natively. evict: as for Matrix.time.");
    nb::class_<FrontEnd>(module, "FrontEnd", "Log-mel energies as Kaldi has them, computed natively.")
        .def(nb::init<int32_t, float, float, int32_t, float>(), "sample_rate"_a, "window_ms"_a, "hop_ms"_a, "mels"_a,
             "floor"_a = 0.0f, "The floor is added to every mel energy, at the 16-bit scale; 0 cuts as Kaldi does.")
        .def_prop_ro("window", &FrontEnd::window, "Samples of a frame.")
        .def("follow_level", &FrontEnd::follow_level, "fall"_a, "above"_a, "follow_background"_a = false,
             "Make features relative to a reference level, as cspbench.corpora.frames.ReferenceLevel does.")
        .def_prop_ro("hop", &FrontEnd::hop, "Samples from one frame to the next.")
        .def("frames", frames_of, "samples"_a, "Samples (N,) in [-1, 1] -> (frames, mels); whole windows only.");
    nb::class_<Network>(module, "Network", "A recogniser on packed weights: immutable, shared by its streams.")
        .def_prop_ro("inputs", &Network::inputs)
        .def_prop_ro("units", &Network::units)
        .def_prop_ro("shape", &Network::shape, "Sizes that a saved state has to agree with.");
    module.def("make_network", make_network, nb::kw_only(), "encoder"_a, "embedding"_a, "prediction"_a,
               "joint_encoder"_a, "joint_prediction"_a, "joint_output"_a, "mean"_a, "scale"_a, "stack"_a,
               "front_end"_a.none(), "max_symbols"_a, "blank"_a, "threads"_a = 1,
               "encoder and prediction as for Lstm, embedding (units, P), joint_encoder and joint_output pairs of "
               "Matrix and bias, mean and scale (mels,). ValueError where they do not fit each other.");
    nb::class_<PythonStream>(module, "Stream", "Decoding of one utterance; used by one thread at a time.")
        .def(nb::init<std::shared_ptr<Network>>(), "network"_a)
        .def("accept", stream_accept, "samples"_a, "Samples (N,) in [-1, 1] at the front end's rate -> new labels.")
        .def("accept_features", stream_accept_features, "features"_a, "Log-mel features (frames, mels) -> new labels.")
        .def(
            "finish",
            [](PythonStream& self) {
                const Use use(self.busy);
                self.stream.finish();
            },
            "The utterance is over; a rest that fills no step is dropped.")
        .def(
            "reset",
            [](PythonStream& self) {
                const Use use(self.busy);
                self.stream.reset();
            },
            "Reset the decoder state.")
        .def("state", stream_state, "Everything about the stream as bytes.")
        .def("restore", stream_restore, "state"_a, "Go on from a state. ValueError if it is no such.")
        .def("time", stream_time, "samples"_a, "chunk"_a, "evict"_a = 0,
             "Accept samples in chunks; seconds of each. evict: as for Matrix.time.")
        .def_prop_ro(
            "steps", [](const PythonStream& self) { return self.stream.steps(); }, "Steps so far.")
        .def_prop_ro("finished", [](const PythonStream& self) { return self.stream.finished(); });
    module.def("advance", advance, "streams"_a, "samples"_a,
               "Feed a chunk of samples to each of many streams of one network, stepping them as one: labels of each.");
}

}  // namespace cspbench
