#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "python/bind.hpp"
#include "recogniser/conformer.hpp"

namespace cspbench {
namespace {

std::vector<float> vector_of(const Floats& x) { return {x.data(), x.data() + x.size()}; }

Affine affine_of(const nb::handle& given) {
    const auto pair = nb::cast<nb::tuple>(given);
    return {nb::cast<const Matrix&>(pair[0]), vector_of(nb::cast<Floats>(pair[1]))};
}

LayerNorm norm_of(const nb::handle& given) {
    const auto pair = nb::cast<nb::tuple>(given);
    return {vector_of(nb::cast<Floats>(pair[0])), vector_of(nb::cast<Floats>(pair[1]))};
}

FeedForward feed_forward_of(const nb::handle& given) {
    const auto parts = nb::cast<nb::tuple>(given);
    return {norm_of(parts[0]), affine_of(parts[1]), affine_of(parts[2])};
}

ConformerBlock block_of(const nb::dict& given) {
    const auto taps = nb::cast<nb::tuple>(given["taps"]);
    return {feed_forward_of(given["first"]),
            norm_of(given["attention_norm"]),
            affine_of(given["attention_inputs"]),
            affine_of(given["attention_output"]),
            norm_of(given["convolution_norm"]),
            affine_of(given["gate"]),
            vector_of(nb::cast<Floats>(taps[0])),
            vector_of(nb::cast<Floats>(taps[1])),
            norm_of(given["convolution_normalise"]),
            affine_of(given["convolution_output"]),
            feed_forward_of(given["second"]),
            norm_of(given["norm"])};
}

Conformer make(const nb::tuple& projection, const std::vector<nb::dict>& blocks, int32_t heads, int32_t kernel,
               int32_t chunk, int32_t left) {
    std::vector<ConformerBlock> made;
    for (const nb::dict& block : blocks) made.push_back(block_of(block));
    return {affine_of(projection), std::move(made), {heads, kernel, chunk, left}};
}

// The frames of an array (layers, frames, width).
int32_t frames_of(const Floats& x, const Conformer& self, const char* what) {
    if (x.ndim() != 3 || x.shape(0) != static_cast<size_t>(self.layers()) ||
        x.shape(2) != static_cast<size_t>(self.width()))
        throw std::invalid_argument(std::string(what) + " must be (" + std::to_string(self.layers()) + ", frames, " +
                                    std::to_string(self.width()) + ")");
    return static_cast<int32_t>(x.shape(1));
}

nb::tuple advance(const Conformer& self, const Floats& x, const Floats& keys, const Floats& values, const Floats& gated,
                  int threads) {
    check_threads(threads);
    const Conformer::Sizes& sizes = self.sizes();
    const auto inputs = static_cast<size_t>(self.inputs()), width = static_cast<size_t>(self.width());
    if (x.ndim() != 2 || x.shape(1) != inputs || x.shape(0) < 1 || x.shape(0) > static_cast<size_t>(sizes.chunk))
        throw std::invalid_argument("x must be (rows, " + std::to_string(inputs) + "), 1 to " +
                                    std::to_string(sizes.chunk) + " rows");
    const int32_t frames = frames_of(keys, self, "keys");
    if (frames > sizes.left || frames_of(values, self, "values") != frames ||
        frames_of(gated, self, "gated inputs") != sizes.kernel - 1)
        throw std::invalid_argument("keys, values and gated inputs are not those of a stream of this encoder");
    const auto rows = static_cast<int32_t>(x.shape(0));
    const auto layers = static_cast<size_t>(self.layers()), kept = static_cast<size_t>(self.kept(frames, rows));
    const auto past = static_cast<size_t>(sizes.kernel - 1);
    const auto made = [&](size_t first, size_t second, float*& data) {
        data = new float[layers * first * second];
        return owned_array(data, {layers, first, second});
    };
    Conformer::NextState after{};
    const nb::object next_keys = made(kept, width, after.keys), next_values = made(kept, width, after.values);
    const nb::object next_gated = made(past, width, after.gated);
    auto* y = new float[x.shape(0) * width];
    const nb::object encoded = owned_array(y, {x.shape(0), width});
    {
        nb::gil_scoped_release release;
        self.advance(x.data(), rows, {keys.data(), values.data(), gated.data(), frames}, y, after, threads);
    }
    return nb::make_tuple(encoded, next_keys, next_values, next_gated);
}

}  // namespace

void bind_conformer(nb::module_& module) {
    using namespace nb::literals;
    nb::class_<Conformer>(module, "Conformer", "A conformer encoder on packed weights: immutable, shared by streams.")
        .def_prop_ro("layers", &Conformer::layers)
        .def("advance", advance, "x"_a, "keys"_a, "values"_a, "gated"_a, "threads"_a = 1,
             "Features (T, C), at most a chunk, and the state before them -> encodings (T, H) and the state after "
             "them: keys and values (layers, frames, H), gated inputs of the convolution (layers, kernel - 1, H).");
    module.def("make_conformer", make, nb::kw_only(), "projection"_a, "blocks"_a, "heads"_a, "kernel"_a, "chunk"_a,
               "left"_a,
               "Affine layers are pairs of Matrix and bias, normalisations pairs of gain and bias, feed-forward layers "
               "a normalisation and two affine layers, taps (kernel, H) and their bias. ValueError where they do not "
               "fit.");
}

}  // namespace cspbench
