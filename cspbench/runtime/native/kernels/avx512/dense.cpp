// Dense matrices for AVX-512.
#include "kernels/avx512/bytes.hpp"

namespace cspbench {
namespace {

template <class V>
struct Plain {  // dense
    const typename V::Stored* at;
    Plain(const Packed& m, int32_t row) : at(values_of<typename V::Stored>(m) + int64_t{row} * m.columns) {}
    void next(__m512 (&weights)[kParts]) {
        for (size_t i = 0; i < kWord * sizeof *at; i += 64) prefetch(at, kAhead + static_cast<int>(i));
        for (int k = 0; k < kParts; ++k) weights[k] = V::load(at + k * kLanes);
        at += kWord;
    }
};

struct PlainBytes {
    const int8_t* at;
    PlainBytes(const Packed& m, int32_t row) : at(values_of<int8_t>(m) + int64_t{row} * m.columns) {}
    __m512i next() {
        prefetch(at, kAhead);
        const __m512i weights = load_bytes(at);
        at += kWord;
        return weights;
    }
};

}  // namespace

void avx512::add_dense(Kernels& kernels) {
    set(kernels, Format::dense, Value::fp32, {run_rows<Fp32, FloatRow<Fp32, Plain<Fp32>>>});
    set(kernels, Format::dense, Value::fp16, {run_rows<Fp16, FloatRow<Fp16, Plain<Fp16>>>});
    set(kernels, Format::dense, Value::bf16, {run_rows<Bf16, FloatRow<Bf16, Plain<Bf16>>>});
    set(kernels, Format::dense, Value::int8, {run_rows<SignedSums, ByteRow<PlainBytes>>, unsigned_bytes, prepare_unsigned});
}

}  // namespace cspbench
