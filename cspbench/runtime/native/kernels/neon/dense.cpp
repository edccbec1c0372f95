// Dense matrices of floats for 64-bit ARM.
#include "kernels/neon/common.hpp"

namespace cspbench {
namespace {

constexpr int kColumns = kParts * kLanes;  // that a reader gives at a time

template <class V>
struct Plain {  // dense
    const typename V::Stored* at;
    Plain(const Packed& m, int32_t row) : at(values_of<typename V::Stored>(m) + int64_t{row} * m.columns) {}
    void next(float32x4_t (&weights)[kParts]) {
        for (int k = 0; k < kParts; ++k) weights[k] = V::load(at + k * kLanes);
        at += kColumns;
    }
};

}  // namespace

void neon::add_dense(Kernels& kernels) {
    set(kernels, Format::dense, Value::fp32, {run_rows<Fp32, FloatRow<Fp32, Plain<Fp32>>>});
    set(kernels, Format::dense, Value::fp16, {run_rows<Fp16, FloatRow<Fp16, Plain<Fp16>>>});
    set(kernels, Format::dense, Value::bf16, {run_rows<Bf16, FloatRow<Bf16, Plain<Bf16>>>});
}

}  // namespace cspbench
