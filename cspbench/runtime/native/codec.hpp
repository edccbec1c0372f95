// A format is one Codec: everything about it except its kernels.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "matrix.hpp"

namespace cspbench {

// Weights already rounded to the type they are stored in; not packed yet.
struct Rounded {
    Value value;
    int32_t rows;
    int32_t columns;
    std::vector<float> fp32;      // one of these three, (rows, columns)
    std::vector<uint16_t> half;   // bits of fp16 or bf16
    std::vector<int8_t> int8;
    std::vector<float> scales;    // int8: (rows,)
};

// An array under construction; its data become part of the matrix.
struct Made {
    std::string name;
    Type type;
    std::vector<int64_t> shape;
    std::vector<uint8_t> data;
};

struct Codec {
    // Fills in defaults and refuses what makes no sense for a matrix of this shape.
    // The result is complete: what a file keeps, and what `describe` gets.
    Options (*complete)(const Options& given, int32_t rows, int32_t columns);
    // Arrays of the format, "values" included, "scales" not.
    std::vector<Made> (*encode)(const Rounded& weights, const Options& options);
    // Sets parameter[], units, stored and the pointers of `m` (rows, columns, format, value and scales are there), checking
    // types, shapes and contents so that no kernel can read or write outside. Throws std::invalid_argument.
    void (*describe)(const std::vector<Array>& arrays, const Options& options, Packed& m);
    // out (rows, columns) comes zeroed; write the values, each times its row's scale for int8 (`weight` of values.hpp).
    void (*decode)(const Packed& m, float* out);
};

const Codec& codec_of(Format format);

extern const Codec dense_codec, bitmap_codec, csr16_codec, csr8_codec, block_codec, nm_codec, window_codec;

}  // namespace cspbench
