// The window format for AVX2.
//
// Floating point: look-ups in registers are too narrow (eight floats), so inputs are loaded one by one, at addresses
// that come straight from the slots; loads, not arithmetic, are what this costs. Slots are read four at a time to save
// loads. int8 and int4: a window of 16 columns fits pshufb; several of them are looked up and the right one is blended in by
// the slot's upper bits.
#include "base/window.hpp"

#include <cstring>

#include "kernels/avx2/common.hpp"

namespace cspbench {
namespace {

constexpr int kAhead = 4096;  // bytes of values, the largest array

// One part of a group (see base/window.hpp): what kernels here are written for.
struct Part {
    int64_t slot;          // its first one
    int64_t step;          // slots from one step to the next
    const uint16_t* rows;  // of its lanes
    int lanes;             // that have a row

    Part(const Packed& m, int32_t group, int32_t part) {
        const int32_t top = group * m.parameter[1] + part * kPartLanes, left = m.rows - top;
        step = int64_t{m.parameter[1]} * kWindowSlots;
        slot = m.starts[group] * step + part * kPartSlots;
        rows = m.order + top;
        lanes = left < 0 ? 0 : left < kPartLanes ? left : kPartLanes;
    }
};

// ---- floating point

__m128 one_lane(const float* x, const uint8_t* slots) {
    uint32_t four;
    memcpy(&four, slots, sizeof four);
    return four_of(x, four);
}

__m256 two_lanes(const float* x, const uint8_t* slots) {
    return _mm256_set_m128(one_lane(x, slots + kWindowSlots), one_lane(x, slots));
}

// Of each 128 bits: the sums of the four floats of a, b, c, d.
__m256 sums_of(__m256 a, __m256 b, __m256 c, __m256 d) {
    return _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
}

template <class V>
void multiply_part(const Packed& m, const float* x, int32_t group, const Part& part, float* y) {
    const uint8_t* slots = m.slots + part.slot;
    const auto* values = values_of<V>(m) + part.slot;
    __m256 lanes01 = _mm256_setzero_ps(), lanes23 = lanes01, lanes45 = lanes01, lanes67 = lanes01;
    for (int64_t step = m.starts[group]; step < m.starts[group + 1]; ++step, slots += part.step, values += part.step) {
        x += m.advance[step];
        prefetch(slots, kAhead / static_cast<int>(sizeof *values));
        for (size_t at = 0; at < kPartSlots * sizeof *values; at += 64)
            prefetch(values, kAhead + static_cast<int>(at));
        lanes01 = _mm256_fmadd_ps(two_lanes(x, slots), V::load(values), lanes01);
        lanes23 = _mm256_fmadd_ps(two_lanes(x, slots + 8), V::load(values + 8), lanes23);
        lanes45 = _mm256_fmadd_ps(two_lanes(x, slots + 16), V::load(values + 16), lanes45);
        lanes67 = _mm256_fmadd_ps(two_lanes(x, slots + 24), V::load(values + 24), lanes67);
    }
    alignas(32) float sums[kPartLanes];  // of lanes 0 2 4 6 1 3 5 7
    _mm256_store_ps(sums, sums_of(lanes01, lanes23, lanes45, lanes67));
    for (int lane = 0; lane < part.lanes; ++lane) y[part.rows[lane]] = sums[lane / 2 + lane % 2 * 4];
}

// A group is read for one input after the other, and for its other part: by the second time it is in the fastest cache.
template <class Multiply>
void for_each_part(const Packed& m, int batch, int32_t first, int32_t last, Multiply multiply) {
    const int32_t parts = m.parameter[1] / kPartLanes;
    for (int32_t group = first; group < last; ++group)
        for (int32_t part = 0; part < parts; ++part)
            for (int b = 0; b < batch; ++b) multiply(group, Part(m, group, part), b);
}

template <class V>
void multiply(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
              ptrdiff_t stride) {
    for_each_part(m, batch, first, last, [&](int32_t group, const Part& part, int b) {
        multiply_part<V>(m, inputs[b].x, group, part, y + b * stride);
    });
}

// ---- bytes

// `load` gives thirty-two weights from the slot on, times 2^kShift; none is beyond 127, as add_products wants it.
struct Int8Weights {
    static constexpr int kShift = 0;
    static __m256i load(const Packed& m, int64_t slot) {
        const auto* at = static_cast<const int8_t*>(m.values) + slot;
        prefetch(at, kAhead);
        return load_bytes(at);
    }
};

// A weight in the upper half of a byte is signed as it is, and 16 times itself.
struct Int4Weights {
    static constexpr int kShift = 4;
    static __m256i load(const Packed& m, int64_t slot) {
        const auto* at = static_cast<const uint8_t*>(m.values) + slot / 2;
        prefetch(at, kAhead);
        const __m256i pairs = _mm256_cvtepu8_epi16(load_half(at));
        const __m256i both = _mm256_or_si256(_mm256_slli_epi16(pairs, 4), _mm256_slli_epi16(pairs, 8));
        return _mm256_and_si256(both, _mm256_set1_epi8(-16));
    }
};

// The upper bits of 32 slots, each moved to where a blend looks for it; the bits beside it do not matter.
struct Slots {
    __m256i at, bit4, bit5, bit6;
    explicit Slots(__m256i slots)
        : at(slots),
          bit4(_mm256_slli_epi16(slots, 3)),
          bit5(_mm256_slli_epi16(slots, 2)),
          bit6(_mm256_slli_epi16(slots, 1)) {}
};

__m256i look_up_16(const int8_t* q, const Slots& slots) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_half(q)), slots.at);
}

__m256i look_up_32(const int8_t* q, const Slots& slots) {
    return _mm256_blendv_epi8(look_up_16(q, slots), look_up_16(q + 16, slots), slots.bit4);
}

__m256i look_up_64(const int8_t* q, const Slots& slots) {
    return _mm256_blendv_epi8(look_up_32(q, slots), look_up_32(q + 32, slots), slots.bit5);
}

__m256i look_up_128(const int8_t* q, const Slots& slots) {
    return _mm256_blendv_epi8(look_up_64(q, slots), look_up_64(q + 64, slots), slots.bit6);
}

// pshufb gives zero where bit 7 is set: the two halves need no blend.
__m256i look_up_256(const int8_t* q, __m256i slots) {
    const __m256i flipped = _mm256_xor_si256(slots, _mm256_set1_epi8(-128));
    return _mm256_or_si256(look_up_128(q, Slots(slots)), look_up_128(q + 128, Slots(flipped)));
}

template <int kWindow>
__m256i look_up(const int8_t* q, __m256i slots) {
    if (kWindow == 64) return look_up_64(q, Slots(slots));
    if (kWindow == 128) return look_up_128(q, Slots(slots));
    return look_up_256(q, slots);
}

template <class W, int kWindow>
void multiply_part_of_bytes(const Packed& m, const Input& input, int32_t group, const Part& part, float* y) {
    const int8_t* q = input.q;
    int64_t slot = part.slot;
    __m256i lanes = _mm256_setzero_si256();
    for (int64_t step = m.starts[group]; step < m.starts[group + 1]; ++step, slot += part.step) {
        q += m.advance[step];
        const uint8_t* slots = m.slots + slot;
        prefetch(slots, kAhead);
        lanes = add_products(lanes, W::load(m, slot), look_up<kWindow>(q, load_bytes(slots)));
    }
    alignas(32) float sums[kPartLanes];
    _mm256_store_ps(sums, _mm256_cvtepi32_ps(_mm256_srai_epi32(lanes, W::kShift)));
    for (int lane = 0; lane < part.lanes; ++lane)
        y[part.rows[lane]] = result(m, part.rows[lane], input, sums[lane]);
}

template <class W, int kWindow>
void multiply_window(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
                     ptrdiff_t stride) {
    for_each_part(m, batch, first, last, [&](int32_t group, const Part& part, int b) {
        multiply_part_of_bytes<W, kWindow>(m, inputs[b], group, part, y + b * stride);
    });
}

template <class W>
void multiply_bytes(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
                    ptrdiff_t stride) {
    switch (m.parameter[0]) {
        case 64: return multiply_window<W, 64>(m, inputs, batch, first, last, y, stride);
        case 128: return multiply_window<W, 128>(m, inputs, batch, first, last, y, stride);
        default: return multiply_window<W, 256>(m, inputs, batch, first, last, y, stride);
    }
}

}  // namespace

void avx2::add_window(Kernels& kernels) {
    set(kernels, Format::window, Value::fp32, {multiply<Fp32>});
    set(kernels, Format::window, Value::fp16, {multiply<Fp16>});
    set(kernels, Format::window, Value::bf16, {multiply<Bf16>});
    set(kernels, Format::window, Value::int8, {multiply_bytes<Int8Weights>});
    set(kernels, Format::window, Value::int4, {multiply_bytes<Int4Weights>});
}

}  // namespace cspbench
