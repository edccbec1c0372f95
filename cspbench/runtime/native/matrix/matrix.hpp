// A packed matrix that owns its arrays.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/format.hpp"

namespace cspbench {

// Parameters of a format by name, e.g. {"block_rows", 1}; what a file keeps beside the arrays.
using Options = std::map<std::string, int32_t>;

enum class Type { u8, i8, u16, u32, u64, f16, f32 };  // f16: two opaque bytes, shown to Python as numpy.float16
size_t size_of(Type type);
const char* name_of(Type type);

// One array of a matrix, somewhere in memory. The data need not be aligned unless a Matrix owns it.
struct Array {
    std::string name;
    Type type;
    std::vector<int64_t> shape;
    const void* data;

    int64_t count() const;
    size_t bytes() const { return static_cast<size_t>(count()) * size_of(type); }
};

// Names as users write them ("csr16", "fp32"); throw std::invalid_argument with the names there are.
Format format_named(const std::string& name);
Value value_named(const std::string& name);
const char* name_of(Format format);
const char* name_of(Value value);

// Columns of an input vector with the zeros that kernels may read behind it.
int64_t padded(int32_t columns);

// An immutable value: copies share their arrays. All members but construction are safe to call from many threads.
class Matrix {
public:
    // dense (rows, columns), row-major, finite. -0 is stored as 0. Throws std::invalid_argument in words for people.
    static Matrix pack(const float* dense, int32_t rows, int32_t columns, Format format, Value value,
                       const Options& options);
    // Copies and then validates everything, so that no array can make a kernel read outside. Throws as above.
    static Matrix from_arrays(Format format, Value value, int32_t rows, int32_t columns,
                              const std::vector<Array>& arrays, const Options& options);

    int32_t rows() const { return packed().rows; }
    int32_t columns() const { return packed().columns; }
    const Packed& packed() const;
    const std::vector<Array>& arrays() const;
    const Options& options() const;
    int64_t nonzeros() const;  // stored values that are not zero
    int64_t bytes() const;     // of all arrays
    // Threads, of `most` >= 1, that pay for a product with `batch` vectors: to hand a part to another takes microseconds.
    int useful_threads(int most, int batch) const;

    void dense(float* out) const;  // (rows, columns)

    // y (rows,) = W x (columns,).
    void multiply(const float* x, float* y) const { multiply(x, y, 1, 1); }
    // y (batch, rows) = x (batch, columns) W^T. Rows are split among `threads` >= 1 by the values stored in them.
    void multiply(const float* x, float* y, int batch, int threads = 1) const;
    // The same for one vector that is 64-byte aligned and followed by zeros up to padded(columns): nothing is copied.
    void multiply_padded(const float* x, float* y) const;

private:
    struct Body;
    explicit Matrix(std::shared_ptr<const Body> body) : body_(std::move(body)) {}
    std::shared_ptr<const Body> body_;
};

}  // namespace cspbench
