// Bytes in rows of entries (csr16) for AVX-512. Floats keep the AVX2 kernels, which load inputs one by one as well.
#include "kernels/avx512/common.hpp"
#include "kernels/shared/gather.hpp"

namespace cspbench {
namespace {

struct Csr16Row {
    template <int B>
    static void sum(const Packed& m, int32_t row, const Input* inputs, __m512i (&sums)[B]) {
        alignas(64) int8_t x[kStretch];
        const uint32_t end = m.starts[row + 1];
        for (uint32_t start = m.starts[row]; start < end; start += kStretch) {
            const uint32_t count = end - start < kStretch ? end - start : kStretch;
            const int8_t* w = values_of<int8_t>(m) + start;
            for (int b = 0; b < B; ++b) {
                gather_bytes(inputs[b].q, m.places + start, count, x);
                sums[b] = add_products(sums[b], w, x, count);
            }
        }
    }

    // Behind the row come others' weights, but zeros in x.
    static __m512i add_products(__m512i sum, const int8_t* w, const int8_t* x, uint32_t count) {
        __m512i excess = _mm512_setzero_si512();  // by the input's 128: what the weights themselves add up to
        for (uint32_t i = 0; i < count; i += kWord) {
            prefetch(w + i, kAhead);
            const __m512i weights = load_bytes(w + i);
            sum = _mm512_dpbusd_epi32(sum, plus_128(load_bytes(x + i)), weights);
            excess = _mm512_dpbusd_epi32(excess, top_bits(), weights);
        }
        return _mm512_sub_epi32(sum, excess);
    }
};

}  // namespace

void avx512::add_csr(Kernels& kernels) { set(kernels, Format::csr16, Value::int8, {run_rows<Int8, Csr16Row>}); }

}  // namespace cspbench
