// What a packed matrix is to a kernel, and what a kernel is to everybody else.
//
// This header is included by files compiled for different instruction sets. It therefore holds plain data only: an
// inline function or a template instantiated in two of them would be one symbol to the linker, which might keep the
// AVX-512 copy for every processor. Such files keep all their own functions in anonymous namespaces and use nothing of
// std but types.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cspbench {

enum class Format : int32_t { dense, bitmap, csr16, csr8, window, block, nm };
enum class Value : int32_t { fp32, fp16, bf16, int8, int4 };  // int4: in the window format alone
constexpr int kFormats = 7;
constexpr int kValues = 5;

// Every array of a matrix, and every input vector, starts at a multiple of so many bytes.
constexpr int kAlignment = 64;
// Behind every array of a matrix lie so many readable bytes of zeros. Weights are finite (always checked), so that a
// kernel may run past the end of a row: the input is zero there.
constexpr int kSlack = 256;
// An input vector is followed by zeros up to a multiple of kInputMultiple columns, and by kInputMargin further zeros.
constexpr int kInputMultiple = 64;
constexpr int kInputMargin = 128;

// A view of one packed matrix. Which arrays are there depends on the format; the others are null. In files and in
// Python, `places` is called "columns" and `nibbles` "positions".
//
//   values    float, uint16 (bits of fp16 or bf16), int8 (never -128), or bytes of two int4 (never -8), that of the
//             even index in the low half; by `value`
//   scales    (rows,) for int8 and int4, else null: weight = scales[row] * value
//   sums      (rows,) for int8 and int4, else null: what the values of a row add up to. Made when a matrix is loaded,
//             as are
//   lane_scales, lane_sums   for these in windows, else null: scales and sums in the order of lanes (base/window.hpp);
//             kSlack bytes of zeros follow all three
//
//   dense     values (rows, columns)
//   bitmap    groups of parameter[0] rows, 1 or 4 (option "lanes"): bits (groups, ceil(columns / 64), lanes), for one
//             lane (rows, ceil(columns / 64)): bit c % 64 of word c / 64 says that column c is stored; values (stored,)
//             in the order of the words, then columns; starts (groups + 1,): first value of each group. The last
//             group's missing rows have no bits
//   csr16     places (stored,): columns, ascending in a row; values (stored,); starts (rows + 1,)
//   csr8      gaps (stored,): columns jumped over since the previous entry of the row (column = previous + 1 + gap, and
//             the previous of the first is -1); a longer gap is bridged by entries of value zero, gap 255; values;
//             starts
//   block     blocks of parameter[0] rows by parameter[1] columns: places (blocks,): block columns, ascending in a row
//             of blocks; values (blocks, block rows, block columns), padded with zeros at the lower and right edges of
//             the matrix; starts (block rows + 1,): first block of each row of blocks
//   nm        at most parameter[0] of each parameter[1] (<= 16) adjacent columns: values (rows, groups, n); nibbles
//             (rows, ceil(groups * n / 2)): columns inside the group, the even slot of a row in the low half of a byte;
//             unused slots are zero, at position 0 if we packed it
//   window    see base/window.hpp
struct Packed {
    Format format;
    Value value;
    int32_t rows;
    int32_t columns;
    int32_t units;   // what kernels are given ranges of: rows, rows of blocks (block), groups of rows (bitmap, window)
    int64_t stored;  // values stored, padding included
    int32_t parameter[8];

    const void* values;
    const float* scales;
    const int32_t* sums;
    const float* lane_scales;
    const int32_t* lane_sums;
    const uint32_t* starts;  // (units + 1,), ascending
    const uint64_t* bits;
    const uint16_t* places;
    const uint8_t* gaps;
    const uint8_t* nibbles;

    // window
    const uint8_t* slots;
    const uint8_t* advance;
    const uint16_t* order;
};

// What a kernel reads of one input vector, prepared once and used by every row.
struct Input {
    const float* x;   // always there
    const int8_t* q;  // for int8 and int4: x = scale * q, |q| <= 127, followed by zeros as x is; else null
    float scale;
    const void* extra;  // what the entry's own `prepare` made of this vector; else null
};

// Computes the row units [first, last) for `batch` >= 1 inputs: y[b * stride + row]. int8 and int4: sums are exact in
// int32 and y = (scales[row] * scale) * float(sum), in this order, so that every format and instruction set gives the
// same bits.
using Kernel = void(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
                    ptrdiff_t stride);

// One way of multiplying. `extra_bytes` and `prepare` are null unless the kernel wants something of its own made from
// each vector; `extra` is then 64-byte aligned and of the size asked for.
struct Entry {
    Kernel* kernel = nullptr;
    size_t (*extra_bytes)(const Packed& m) = nullptr;
    void (*prepare)(const Packed& m, const Input& input, void* extra) = nullptr;
};

struct Loops;  // the elementwise part: see kernels/loops.hpp

// The kernels of one instruction set. What it lacks (null) it takes from the one below.
struct Kernels {
    Entry at[kFormats][kValues];
    // scale = max|x| / 127, q = x * (127 / max|x|) rounded half to even; `count` columns, a multiple of kInputMultiple.
    // Something in x that is not finite makes scale NaN and q zero; max|x| < 2^-100 counts as zero.
    void (*quantise)(const float* x, int32_t count, int8_t* q, float* scale);
    const Loops* loops;
};

}  // namespace cspbench
