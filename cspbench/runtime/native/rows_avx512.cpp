// Dense and bitmap for AVX-512.
#include "avx512.hpp"

namespace cspbench {
namespace {

constexpr int kWord = 64;  // columns of a word of a bitmap
static_assert(kWord == kParts * kLanes, "a reader gives a word's columns at a time");

// ---- sixty-four columns of floats at a time

template <class V>
struct Plain {  // dense
    const typename V::Stored* at;
    Plain(const Packed& m, int32_t row) : at(values_of<typename V::Stored>(m) + int64_t{row} * m.columns) {}
    void next(__m512 (&weights)[kParts]) {
        for (int k = 0; k < kParts; ++k) weights[k] = V::load(at + k * kLanes);
        at += kWord;
    }
};

// Where the next word's values begin depends on this one's bits; within a word nothing waits for anything.
template <class V>
struct Expanded;  // bitmap

template <>
struct Expanded<Fp32> {
    const uint64_t* bits;
    const float* at;
    Expanded(const Packed& m, int32_t row)
        : bits(m.bits + int64_t{row} * ((m.columns + kWord - 1) / kWord)), at(values_of<float>(m) + m.starts[row]) {}
    void next(__m512 (&weights)[kParts]) {
        const uint64_t word = *bits++;
        for (int k = 0; k < kParts; ++k) {
            const float* from = at + _mm_popcnt_u64(word & ((uint64_t{1} << k * kLanes) - 1));
            const auto mask = static_cast<__mmask16>(word >> k * kLanes);
            weights[k] =
                _mm512_maskz_expand_ps(mask, _mm512_loadu_ps(from));  // the form that reads memory is slow on Zen
        }
        at += _mm_popcnt_u64(word);
    }
};

template <class V>
struct ExpandedHalf {
    const uint64_t* bits;
    const uint16_t* at;
    ExpandedHalf(const Packed& m, int32_t row)
        : bits(m.bits + int64_t{row} * ((m.columns + kWord - 1) / kWord)), at(values_of<uint16_t>(m) + m.starts[row]) {}
    void next(__m512 (&weights)[kParts]) {
        const uint64_t word = *bits++;
        const auto low = static_cast<uint32_t>(word), high = static_cast<uint32_t>(word >> 32);
        const __m512i one = _mm512_maskz_expand_epi16(low, _mm512_loadu_si512(at));
        const __m512i other = _mm512_maskz_expand_epi16(high, _mm512_loadu_si512(at + _mm_popcnt_u32(low)));
        at += _mm_popcnt_u64(word);
        weights[0] = V::decode(_mm512_castsi512_si256(one));
        weights[1] = V::decode(_mm512_extracti64x4_epi64(one, 1));
        weights[2] = V::decode(_mm512_castsi512_si256(other));
        weights[3] = V::decode(_mm512_extracti64x4_epi64(other, 1));
    }
};

template <>
struct Expanded<Fp16> : ExpandedHalf<Fp16> {
    using ExpandedHalf::ExpandedHalf;
};

template <>
struct Expanded<Bf16> : ExpandedHalf<Bf16> {
    using ExpandedHalf::ExpandedHalf;
};

// ---- sixty-four columns of bytes at a time: weights are made unsigned. What that adds to a sum, 128 times the input's
// own sum, is the same for all rows: each row's sums begin with its negative.

size_t start_bytes(const Packed&) { return sizeof(__m512i); }

void prepare_start(const Packed& m, const Input& input, void* extra) {
    __m512i sum = _mm512_setzero_si512();
    for (int32_t c = 0; c < m.columns; c += kWord) sum = _mm512_dpbusd_epi32(sum, top_bits(), load_bytes(input.q + c));
    _mm512_store_si512(extra, _mm512_sub_epi32(_mm512_setzero_si512(), sum));
}

struct PlainBytes {
    const int8_t* at;
    PlainBytes(const Packed& m, int32_t row) : at(values_of<int8_t>(m) + int64_t{row} * m.columns) {}
    __m512i next() {
        const __m512i weights = load_bytes(at);
        at += kWord;
        return weights;
    }
};

struct ExpandedBytes {
    const uint64_t* bits;
    const int8_t* at;
    ExpandedBytes(const Packed& m, int32_t row)
        : bits(m.bits + int64_t{row} * ((m.columns + kWord - 1) / kWord)), at(values_of<int8_t>(m) + m.starts[row]) {}
    __m512i next() {
        const uint64_t word = *bits++;
        const __m512i weights = _mm512_maskz_expand_epi8(word, load_bytes(at));
        at += _mm_popcnt_u64(word);
        return weights;
    }
};

template <class Reader>
struct ByteRow {
    template <int B>
    static void sum(const Packed& m, int32_t row, const Input* inputs, __m512i (&sums)[B]) {
        constexpr int kChains = 4;
        Reader reader(m, row);
        __m512i parts[B][kChains] = {};
        for (int b = 0; b < B; ++b) parts[b][0] = _mm512_load_si512(inputs[b].extra);
        int32_t c = 0;
        for (; c + (kChains - 1) * kWord < m.columns; c += kChains * kWord)
            for (int k = 0; k < kChains; ++k) step(reader, inputs, c + k * kWord, parts, k);
        for (; c < m.columns; c += kWord) step(reader, inputs, c, parts, 0);
        for (int b = 0; b < B; ++b)
            sums[b] = _mm512_add_epi32(_mm512_add_epi32(parts[b][0], parts[b][1]),
                                       _mm512_add_epi32(parts[b][2], parts[b][3]));
    }

    template <int B, int Chains>
    static void step(Reader& reader, const Input* inputs, int32_t c, __m512i (&parts)[B][Chains], int chain) {
        const __m512i weights = plus_128(reader.next());
        for (int b = 0; b < B; ++b)
            parts[b][chain] = _mm512_dpbusd_epi32(parts[b][chain], weights, _mm512_load_si512(inputs[b].q + c));
    }
};

}  // namespace

void add_rows_avx512(Kernels& kernels) {
    Entry* dense = kernels.at[static_cast<int>(Format::dense)];
    Entry* bitmap = kernels.at[static_cast<int>(Format::bitmap)];
    dense[static_cast<int>(Value::fp32)] = {run_rows<Fp32, FloatRow<Fp32, Plain<Fp32>>>, nullptr, nullptr};
    dense[static_cast<int>(Value::fp16)] = {run_rows<Fp16, FloatRow<Fp16, Plain<Fp16>>>, nullptr, nullptr};
    dense[static_cast<int>(Value::bf16)] = {run_rows<Bf16, FloatRow<Bf16, Plain<Bf16>>>, nullptr, nullptr};
    dense[static_cast<int>(Value::int8)] = {run_rows<Int8, ByteRow<PlainBytes>>, start_bytes, prepare_start};
    bitmap[static_cast<int>(Value::fp32)] = {run_rows<Fp32, FloatRow<Fp32, Expanded<Fp32>>>, nullptr, nullptr};
    bitmap[static_cast<int>(Value::fp16)] = {run_rows<Fp16, FloatRow<Fp16, Expanded<Fp16>>>, nullptr, nullptr};
    bitmap[static_cast<int>(Value::bf16)] = {run_rows<Bf16, FloatRow<Bf16, Expanded<Bf16>>>, nullptr, nullptr};
    bitmap[static_cast<int>(Value::int8)] = {run_rows<Int8, ByteRow<ExpandedBytes>>, start_bytes, prepare_start};
}

}  // namespace cspbench
