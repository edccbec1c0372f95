// The window format for AVX-512: the input's window lies in registers, slots are looked up there.
//
// Floats are kept as two planes, the low and the high halves of their bits: one look-up of 16-bit numbers serves all
// slots of a step, over twice the columns that one of floats would.
#include "base/window.hpp"

#include "kernels/avx512/common.hpp"

namespace cspbench {
namespace {

constexpr int kWords = 32;  // 16-bit numbers of a vector
constexpr int kBytes = 64;

// ---- floats

struct Planes {
    const uint16_t* low;
    const uint16_t* high;
};

int32_t plane_of(const Packed& m) {
    return (m.columns + kInputMultiple - 1) / kInputMultiple * kInputMultiple + kInputMargin;
}

size_t planes_bytes(const Packed& m) { return 2 * sizeof(uint16_t) * static_cast<size_t>(plane_of(m)); }

void prepare_planes(const Packed& m, const Input& input, void* extra) {
    auto* low = static_cast<uint16_t*>(extra);
    for (int32_t c = 0; c < plane_of(m); c += kLanes) {
        const __m512i bits = _mm512_loadu_si512(input.x + c);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(low + c), _mm512_cvtepi32_epi16(bits));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(low + plane_of(m) + c),
                            _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
    }
}

// The slots' columns as 16-bit numbers, in the order in which joining two planes lane by lane (below) gives floats in
// theirs: rows 0 4 1 5 2 6 3 7 of a step.
__m512i columns_of(const uint8_t* slots) {
    const __m256i rows = _mm256_permutevar8x32_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(slots)),
                                                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    return _mm512_cvtepu8_epi16(rows);
}

__m512i words(const uint16_t* from) { return _mm512_loadu_si512(from); }

// One plane's halves at columns < Window of it.
template <int Window>
__m512i look_up(const uint16_t* plane, __m512i columns) {
    __m512i found = _mm512_permutex2var_epi16(words(plane), columns, words(plane + kWords));
    if (Window >= 128) {
        const __m512i far = _mm512_permutex2var_epi16(words(plane + 2 * kWords), columns, words(plane + 3 * kWords));
        found = _mm512_mask_mov_epi16(found, _mm512_test_epi16_mask(columns, _mm512_set1_epi16(64)), far);
    }
    if (Window == 256) {
        const __m512i farther = look_up<128>(plane + 4 * kWords, columns);
        found = _mm512_mask_mov_epi16(found, _mm512_test_epi16_mask(columns, _mm512_set1_epi16(128)), farther);
    }
    return found;
}

// Sixteen slots each: those of rows 0 to 3, and of rows 4 to 7.
struct Looked {
    __m512 first, second;
};

template <int Window>
Looked look_up(Planes planes, __m512i columns) {
    const __m512i low = look_up<Window>(planes.low, columns), high = look_up<Window>(planes.high, columns);
    return {_mm512_castsi512_ps(_mm512_unpacklo_epi16(low, high)),
            _mm512_castsi512_ps(_mm512_unpackhi_epi16(low, high))};
}

template <class V, int Window, int B>
void float_group(const Packed& m, const Input* inputs, int32_t group, float* y, ptrdiff_t stride) {
    Planes planes[B];
    Looked sums[B];
    for (int b = 0; b < B; ++b) {
        const auto* low = static_cast<const uint16_t*>(inputs[b].extra);
        planes[b] = {low, low + plane_of(m)};
        sums[b] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    }
    int64_t base = 0;
    for (int64_t step = m.starts[group]; step < m.starts[group + 1]; ++step) {
        base += m.advance[step];
        const auto* w = values_of<typename V::Stored>(m) + step * kWindowStep;
        const uint8_t* slots = m.slots + step * kWindowStep;
        for (size_t at = 0; at < kWindowStep * sizeof *w; at += 64) prefetch(w, kAhead + static_cast<int>(at));
        prefetch(slots, kAhead);
        const __m512 first = V::load(w), second = V::load(w + kLanes);
        const __m512i columns = columns_of(slots);
        for (int b = 0; b < B; ++b) {
            const Looked x = look_up<Window>(Planes{planes[b].low + base, planes[b].high + base}, columns);
            sums[b].first = _mm512_fmadd_ps(first, x.first, sums[b].first);
            sums[b].second = _mm512_fmadd_ps(second, x.second, sums[b].second);
        }
    }
    for (int b = 0; b < B; ++b) {
        float lanes[2 * kLanes];
        _mm512_storeu_ps(lanes, sums[b].first);
        _mm512_storeu_ps(lanes + kLanes, sums[b].second);
        const int32_t top = group * kWindowLanes;
        for (int lane = 0; lane < kWindowLanes && top + lane < m.rows; ++lane) {
            const float* four = lanes + lane * kWindowSlots;
            y[b * stride + m.order[top + lane]] = (four[0] + four[1]) + (four[2] + four[3]);
        }
    }
}

// ---- bytes: the four slots of a row are what one lane of vpdpbusd adds up

__m256i half_of(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }

template <int Window>
__m256i look_up(const int8_t* q, __m256i columns) {
    const __m512i wide = _mm512_castsi256_si512(columns);
    if (Window == 64) return _mm512_castsi512_si256(_mm512_permutexvar_epi8(wide, load_bytes(q)));
    const __m512i near = _mm512_permutex2var_epi8(load_bytes(q), wide, load_bytes(q + kBytes));
    if (Window == 128) return _mm512_castsi512_si256(near);
    const __m512i far = _mm512_permutex2var_epi8(load_bytes(q + 2 * kBytes), wide, load_bytes(q + 3 * kBytes));
    return _mm256_mask_mov_epi8(_mm512_castsi512_si256(near), _mm256_movepi8_mask(columns),
                                _mm512_castsi512_si256(far));
}

template <int Window, int B>
void byte_group(const Packed& m, const Input* inputs, int32_t group, float* y, ptrdiff_t stride) {
    const __m256i top_bits = _mm256_set1_epi8(-128);
    __m256i sums[B], excess = _mm256_setzero_si256();  // by the input's 128: what the weights themselves add up to
    for (int b = 0; b < B; ++b) sums[b] = _mm256_setzero_si256();
    int64_t base = 0;
    for (int64_t step = m.starts[group]; step < m.starts[group + 1]; ++step) {
        base += m.advance[step];
        const int8_t* w = values_of<int8_t>(m) + step * kWindowStep;
        const uint8_t* slots = m.slots + step * kWindowStep;
        prefetch(w, kAhead);
        prefetch(slots, kAhead);
        const __m256i weights = half_of(w), columns = half_of(slots);
        excess = _mm256_dpbusd_epi32(excess, top_bits, weights);
        for (int b = 0; b < B; ++b) {
            const __m256i x = _mm256_xor_si256(look_up<Window>(inputs[b].q + base, columns), top_bits);
            sums[b] = _mm256_dpbusd_epi32(sums[b], x, weights);
        }
    }
    for (int b = 0; b < B; ++b) {
        int32_t lanes[kWindowLanes];
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), _mm256_sub_epi32(sums[b], excess));
        const int32_t top = group * kWindowLanes;
        for (int lane = 0; lane < kWindowLanes && top + lane < m.rows; ++lane) {
            const int32_t row = m.order[top + lane];
            y[b * stride + row] = (m.scales[row] * inputs[b].scale) * static_cast<float>(lanes[lane]);
        }
    }
}

// ---- running over groups and inputs

template <class V, int Window>
struct Floats {
    template <int B>
    static void group(const Packed& m, const Input* inputs, int32_t group, float* y, ptrdiff_t stride) {
        float_group<V, Window, B>(m, inputs, group, y, stride);
    }
};

template <int Window>
struct Bytes {
    template <int B>
    static void group(const Packed& m, const Input* inputs, int32_t group, float* y, ptrdiff_t stride) {
        byte_group<Window, B>(m, inputs, group, y, stride);
    }
};

template <class Group>
void run_groups(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
                ptrdiff_t stride) {
    for (int32_t group = first; group < last; ++group) {
        int b = 0;
        for (; b + kTogether <= batch; b += kTogether)
            Group::template group<kTogether>(m, inputs + b, group, y + b * stride, stride);
        for (; b < batch; ++b) Group::template group<1>(m, inputs + b, group, y + b * stride, stride);
    }
}

template <class Narrow, class Middle, class Wide>
void run(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y, ptrdiff_t stride) {
    const int32_t window = m.parameter[0];
    const auto kernel = window == 64 ? run_groups<Narrow> : window == 128 ? run_groups<Middle> : run_groups<Wide>;
    kernel(m, inputs, batch, first, last, y, stride);
}

template <class V>
constexpr Entry floats{run<Floats<V, 64>, Floats<V, 128>, Floats<V, 256>>, planes_bytes, prepare_planes};

}  // namespace

void avx512::add_window(Kernels& kernels) {
    set(kernels, Format::window, Value::fp32, floats<Fp32>);
    set(kernels, Format::window, Value::fp16, floats<Fp16>);
    set(kernels, Format::window, Value::bf16, floats<Bf16>);
    set(kernels, Format::window, Value::int8, {run<Bytes<64>, Bytes<128>, Bytes<256>>});
}

}  // namespace cspbench
