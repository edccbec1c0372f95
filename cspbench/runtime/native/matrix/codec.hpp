// A format is one Codec: everything about it except its kernels. Not for files compiled for an instruction set.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/values.hpp"
#include "matrix/matrix.hpp"

namespace cspbench {

// Weights already rounded to the type they are stored in, as opaque bits; zero bits mean zero (there is no -0).
struct Rounded {
    Value value;
    int32_t rows;
    int32_t columns;
    std::vector<uint8_t> bits;  // (rows, columns) elements of 1, 2 or 4 bytes; of 1 for int4
    std::vector<float> scales;  // int8, int4: (rows,)

    // visit(const T* weights) with T uint8_t, uint16_t or uint32_t.
    template <class Visit>
    auto visit(const Visit& visit) const {
        if (has_scales(value)) return visit(bits.data());
        if (value == Value::fp32) return visit(reinterpret_cast<const uint32_t*>(bits.data()));
        return visit(reinterpret_cast<const uint16_t*>(bits.data()));
    }
};

// Throws std::invalid_argument at a weight that is not finite or not within the range of the type.
Rounded round_weights(const float* dense, int32_t rows, int32_t columns, Value value);

// An array under construction.
struct Made {
    std::string name;
    Type type;
    std::vector<int64_t> shape;
    std::vector<uint8_t> data;
};

// A Made from a vector of plain numbers.
template <class T>
Made made(const char* name, Type type, std::vector<int64_t> shape, const std::vector<T>& numbers) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(numbers.data());
    return {name, type, std::move(shape), {bytes, bytes + numbers.size() * sizeof(T)}};
}

// The arrays of a matrix that somebody gives us, asked for by name. Every complaint is a std::invalid_argument.
class Given {
public:
    explicit Given(const std::vector<Array>& arrays) : arrays_(arrays) {}
    // Refuses arrays of other names than these and "scales".
    Given(const std::vector<Array>& arrays, std::initializer_list<const char*> names);
    // The array, if it is there and of this type and shape; an extent of -1 may be anything.
    const Array& get(const char* name, Type type, const std::vector<int64_t>& shape) const;
    template <class T>
    const T* data(const char* name, Type type, const std::vector<int64_t>& shape) const {
        return static_cast<const T*>(get(name, type, shape).data);
    }

private:
    const std::vector<Array>& arrays_;
};

Type type_of(Value value);

// Throws std::invalid_argument with this message if it does not hold.
inline void require(bool holds, const char* message) {
    if (!holds) throw std::invalid_argument(message);
}

// The row of `unit` + 1 starts: begins with 0, never falls, ends with `total`, which must be < 2^32.
void check_starts(const uint32_t* starts, int32_t units, int64_t total);

// An option: what was given, or else `otherwise`.
int32_t option(const Options& given, const char* name, int32_t otherwise);
// Refuses options of other names than these.
void check_options(const Options& given, std::initializer_list<const char*> names);

struct Codec {
    // Fills in defaults and refuses what makes no sense for a matrix of this shape.
    // The result is what `encode` and `describe` get.
    Options (*complete)(const Options& given, int32_t rows, int32_t columns);
    // Arrays of the format, "values" included, "scales" not. Adds to `options` what it has chosen itself: they are what
    // a file keeps.
    std::vector<Made> (*encode)(const Rounded& weights, Options& options);
    // Sets parameter[], units, stored and the pointers of `m` (rows, columns, format, value and scales are there
    // already), checking names, types, shapes and contents so that no kernel can read or write outside. That the
    // `stored` values are finite (and int8 not -128) is checked by the caller afterwards.
    void (*describe)(const std::vector<Array>& arrays, const Options& options, Packed& m);
    // out (rows, columns) comes zeroed; write `weight(m, row, index)` of base/values.hpp where there is one.
    void (*decode)(const Packed& m, float* out);
};

const Codec& codec_of(Format format);

extern const Codec dense_codec, bitmap_codec, csr16_codec, csr8_codec, block_codec, nm_codec, window_codec;

}  // namespace cspbench
