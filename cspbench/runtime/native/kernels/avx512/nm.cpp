// N of M along the columns for AVX-512: the columns of a few groups lie in registers and are looked up there.
#include <cstring>

#include "kernels/avx512/common.hpp"

namespace cspbench {
namespace {

int64_t slots_of(const Packed& m) {
    return int64_t{(m.columns + m.parameter[1] - 1) / m.parameter[1]} * m.parameter[0];
}
const uint8_t* nibbles_of(const Packed& m, int32_t row) { return m.nibbles + row * ((slots_of(m) + 1) / 2); }

// ---- any N and M: as many groups as sixteen slots hold, columns gathered

// Where each of sixteen slots' groups begins.
__m512i group_places(int32_t n, int32_t m) {
    int32_t places[kLanes];
    for (int32_t slot = 0; slot < kLanes; ++slot) places[slot] = slot / n * m;
    return _mm512_loadu_si512(places);
}

// Sixteen positions, from a nibble at any place; the last may be missing if that is an odd one.
__m512i positions_at(const uint8_t* nibbles, int64_t slot) {
    uint64_t packed;
    std::memcpy(&packed, nibbles + slot / 2, sizeof packed);
    packed >>= slot % 2 * 4;
    const __m512i places = _mm512_set_epi64(0x3c00000038, 0x3400000030, 0x2c00000028, 0x2400000020, 0x1c00000018,
                                            0x1400000010, 0x0c00000008, 0x0400000000);
    const __m512i spread = _mm512_multishift_epi64_epi8(places, _mm512_set1_epi64(static_cast<int64_t>(packed)));
    return _mm512_and_si512(spread, _mm512_set1_epi32(15));
}

__m512 gather(const float* x, __m512i columns, __mmask16 lanes) {
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), lanes, columns, x, 4);
}

// Three bytes too many are read and shifted out.
__m512i gather(const int8_t* q, __m512i columns, __mmask16 lanes) {
    const __m512i found = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), lanes, columns, q, 1);
    return _mm512_srai_epi32(_mm512_slli_epi32(found, 24), 24);
}

template <class V>
struct AnyRow {
    template <int B>
    static void sum(const Packed& packed, int32_t row, const Input* inputs, typename V::Sum (&sums)[B]) {
        const int32_t n = packed.parameter[0], m = packed.parameter[1], groups = kLanes / n;
        const int64_t slots = slots_of(packed);
        const auto* w = values_of<typename V::Stored>(packed) + row * slots;
        const uint8_t* nibbles = nibbles_of(packed, row);
        const __m512i places = group_places(n, m);
        int32_t left = 0;
        for (int64_t slot = 0; slot < slots; slot += groups * n, left += groups * m) {
            const int64_t count = slots - slot < groups * n ? slots - slot : groups * n;
            const auto lanes = static_cast<__mmask16>((1u << count) - 1);
            const __m512i columns = _mm512_add_epi32(places, positions_at(nibbles, slot));
            for (int b = 0; b < B; ++b)  // lanes beyond `count` are zero in the input: their weights are others'
                sums[b] =
                    V::multiply_add(V::load(w + slot), gather(V::vector(inputs[b]) + left, columns, lanes), sums[b]);
        }
    }
};

// ---- N and M powers of two, M = 2 N or 4 N: thirty-two or sixty-four columns for sixteen slots

// One of 16 * Registers columns for each lane, from its number.
template <int Registers>
__m512 look_up(const float* x, __m512i columns) {
    const __m512 near = _mm512_permutex2var_ps(_mm512_loadu_ps(x), columns, _mm512_loadu_ps(x + kLanes));
    if (Registers == 2) return near;
    const __m512 far =
        _mm512_permutex2var_ps(_mm512_loadu_ps(x + 2 * kLanes), columns, _mm512_loadu_ps(x + 3 * kLanes));
    return _mm512_mask_blend_ps(_mm512_test_epi32_mask(columns, _mm512_set1_epi32(2 * kLanes)), near, far);
}

template <class V, int Registers>
struct NearRow {
    template <int B>
    static void sum(const Packed& m, int32_t row, const Input* inputs, __m512 (&sums)[B]) {
        constexpr int kChains = 2;
        const int64_t slots = slots_of(m);
        const auto* w = values_of<typename V::Stored>(m) + row * slots;
        const uint8_t* nibbles = nibbles_of(m, row);
        const __m512i places = group_places(m.parameter[0], m.parameter[1]);
        __m512 parts[B][kChains] = {};
        // Behind the row come others' weights, but zeros of the input.
        for (int64_t slot = 0; slot < slots; slot += kChains * kLanes)
            for (int k = 0; k < kChains; ++k) {
                const int64_t at = slot + k * kLanes;
                const __m512 weights = V::load(w + at);
                const __m512i columns = _mm512_or_si512(places, positions_at(nibbles, at));
                for (int b = 0; b < B; ++b) {
                    const __m512 x = look_up<Registers>(inputs[b].x + at * Registers, columns);
                    parts[b][k] = _mm512_fmadd_ps(weights, x, parts[b][k]);
                }
            }
        for (int b = 0; b < B; ++b) sums[b] = _mm512_add_ps(parts[b][0], parts[b][1]);
    }
};

// ---- the same for bytes: sixty-four slots

constexpr int kBytes = 64;

// Where each of sixty-four slots' groups begins.
__m512i byte_places(int32_t n, int32_t m) {
    uint8_t places[kBytes];
    for (int32_t slot = 0; slot < kBytes; ++slot) places[slot] = static_cast<uint8_t>(slot / n * m);
    return _mm512_loadu_si512(places);
}

__m512i byte_positions(const uint8_t* nibbles) {
    const __m512i pairs = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(nibbles)));
    const __m512i spread = _mm512_or_si512(pairs, _mm512_slli_epi16(pairs, 4));
    return _mm512_and_si512(spread, _mm512_set1_epi8(15));
}

// Up to 64 * Registers columns, of which the first `count` are the input's; what lies behind its margin is not read.
template <int Registers>
__m512i look_up(const int8_t* q, __m512i columns, int64_t count) {
    const __m512i near = _mm512_permutex2var_epi8(load_bytes(q), columns, load_bytes(q + kBytes));
    if (Registers == 2) return near;
    const __mmask64 third = count > 2 * kBytes ? ~__mmask64{0} : 0, fourth = count > 3 * kBytes ? ~__mmask64{0} : 0;
    const __m512i far = _mm512_permutex2var_epi8(_mm512_maskz_loadu_epi8(third, q + 2 * kBytes), columns,
                                                 _mm512_maskz_loadu_epi8(fourth, q + 3 * kBytes));
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(columns), near, far);
}

template <int Registers>
struct ByteRow {
    template <int B>
    static void sum(const Packed& m, int32_t row, const Input* inputs, __m512i (&sums)[B]) {
        const int64_t slots = slots_of(m);
        const auto* w = values_of<int8_t>(m) + row * slots;
        const uint8_t* nibbles = nibbles_of(m, row);
        const __m512i places = byte_places(m.parameter[0], m.parameter[1]);
        __m512i excess = _mm512_setzero_si512();  // by the input's 128: what the weights themselves add up to
        for (int64_t slot = 0; slot < slots; slot += kBytes) {
            const __m512i weights = load_bytes(w + slot);
            const __m512i columns = _mm512_or_si512(places, byte_positions(nibbles + slot / 2));
            excess = _mm512_dpbusd_epi32(excess, top_bits(), weights);
            for (int b = 0; b < B; ++b) {
                const int64_t left = slot * Registers;
                const __m512i x = look_up<Registers>(inputs[b].q + left, columns, m.columns - left);
                sums[b] = _mm512_dpbusd_epi32(sums[b], plus_128(x), weights);
            }
        }
        for (int b = 0; b < B; ++b) sums[b] = _mm512_sub_epi32(sums[b], excess);
    }
};

// ---- which of them

bool power_of_two(int32_t number) { return (number & (number - 1)) == 0; }

template <class V, class Two, class Four>
void run(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y, ptrdiff_t stride) {
    const bool regular = power_of_two(m.parameter[0]) && power_of_two(m.parameter[1]);
    const int32_t ratio = regular ? m.parameter[1] / m.parameter[0] : 0;
    const auto kernel = ratio == 2 ? run_rows<V, Two> : ratio == 4 ? run_rows<V, Four> : run_rows<V, AnyRow<V>>;
    kernel(m, inputs, batch, first, last, y, stride);
}

}  // namespace

void avx512::add_nm(Kernels& kernels) {
    set(kernels, Format::nm, Value::fp32, {run<Fp32, NearRow<Fp32, 2>, NearRow<Fp32, 4>>});
    set(kernels, Format::nm, Value::fp16, {run<Fp16, NearRow<Fp16, 2>, NearRow<Fp16, 4>>});
    set(kernels, Format::nm, Value::bf16, {run<Bf16, NearRow<Bf16, 2>, NearRow<Bf16, 4>>});
    set(kernels, Format::nm, Value::int8, {run<Int8, ByteRow<2>, ByteRow<4>>});
}

}  // namespace cspbench
