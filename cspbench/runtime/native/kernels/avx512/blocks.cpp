// Blocks for AVX-512.
#include "kernels/shared/blocks.hpp"

#include "kernels/avx512/common.hpp"

namespace cspbench {
namespace {

struct Repeated {
    using Pattern = __m512i;
    static Pattern pattern_of(int32_t lanes) {
        int32_t places[kLanes];
        for (int32_t lane = 0; lane < kLanes; ++lane) places[lane] = lane % lanes;
        return _mm512_loadu_si512(places);
    }
    static __mmask16 mask_of(int32_t own) { return static_cast<__mmask16>((1u << own) - 1); }
    static __m512 repeated(Pattern pattern, int32_t own, __m512 x) {
        return _mm512_maskz_permutexvar_ps(mask_of(own), pattern, x);
    }
    static __m512i repeated(Pattern pattern, int32_t own, __m512i x) {
        return _mm512_maskz_permutexvar_epi32(mask_of(own), pattern, x);
    }
    static void write(float* to, __m512 sums) { _mm512_storeu_ps(to, sums); }
    static void write(int32_t* to, __m512i sums) { _mm512_storeu_si512(to, sums); }
};

// One column of any type of values.
template <class V>
struct Single : V, Repeated {
    static constexpr int32_t kColumns = 1;
    static typename V::Sum weights(const typename V::Stored* w) { return V::load(w); }
    static typename V::Sum excess(typename V::Sum, typename V::Sum to) { return to; }
};

// Four columns of bytes; weights are larger by 128.
struct Quad : Int8, Repeated {
    static constexpr int32_t kColumns = 4;
    static Sum weights(const int8_t* w) { return plus_128(load_bytes(w)); }
    static Sum load_input(const int8_t* q) { return load_bytes(q); }
    static Sum multiply_add(Sum weights, Sum x, Sum to) { return _mm512_dpbusd_epi32(to, weights, x); }
    static Sum excess(Sum x, Sum to) { return _mm512_dpbusd_epi32(to, top_bits(), x); }
};

void run_bytes(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
               ptrdiff_t stride) {
    const auto kernel = m.parameter[1] % Quad::kColumns ? run_blocks<Single<Int8>> : run_blocks<Quad>;
    kernel(m, inputs, batch, first, last, y, stride);
}

}  // namespace

void avx512::add_blocks(Kernels& kernels) {
    set(kernels, Format::block, Value::fp32, {run_blocks<Single<Fp32>>});
    set(kernels, Format::block, Value::fp16, {run_blocks<Single<Fp16>>});
    set(kernels, Format::block, Value::bf16, {run_blocks<Single<Bf16>>});
    set(kernels, Format::block, Value::int8, {run_bytes});
}

}  // namespace cspbench
