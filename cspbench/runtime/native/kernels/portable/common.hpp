// Types of values for kernels that run on any processor.
#pragma once

#include "base/values.hpp"
#include "kernels/shared/table.hpp"

namespace cspbench {

// Each file of this folder adds its own.
namespace portable {
void add_rows(Kernels& kernels);
void add_window(Kernels& kernels);
void add_quantise(Kernels& kernels);
}  // namespace portable

namespace {

struct Floating {
    using Number = float;  // of inputs, weights and sums
    static const float* vector(const Input& input) { return input.x; }
    static float result(const Packed&, int32_t, const Input&, float sum) { return sum; }
};

struct Fp32 : Floating {
    using Stored = float;
    static float decode(float stored) { return stored; }
};

struct Fp16 : Floating {
    using Stored = uint16_t;
    static float decode(uint16_t stored) { return fp16_to_float(stored); }
};

struct Bf16 : Floating {
    using Stored = uint16_t;
    static float decode(uint16_t stored) { return bf16_to_float(stored); }
};

struct Int8 {
    using Number = int32_t;
    using Stored = int8_t;
    static const int8_t* vector(const Input& input) { return input.q; }
    static int32_t decode(int8_t stored) { return stored; }
    static float result(const Packed& m, int32_t row, const Input& input, int32_t sum) {
        return (m.scales[row] * input.scale) * static_cast<float>(sum);
    }
};

}  // namespace
}  // namespace cspbench
