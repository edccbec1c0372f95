// The window format for AVX-512: the input's window lies in registers, slots are looked up there.
//
// Floats are kept as two planes, the low and the high halves of their bits: one look-up of 16-bit numbers serves all
// slots of a step, over twice the columns that one of floats would.
#include "base/window.hpp"

#include "kernels/avx512/bytes.hpp"

namespace cspbench {
namespace {

constexpr int kWords = 32;  // 16-bit numbers of a vector
constexpr int kBytes = 64;

// ---- floats

struct Planes {
    const uint16_t* low;
    const uint16_t* high;
};

size_t planes_bytes(const Packed& m) { return 2 * sizeof(uint16_t) * static_cast<size_t>(extent_of(m)); }

void prepare_planes(const Packed& m, const Input& input, void* extra) {
    auto* low = static_cast<uint16_t*>(extra);
    for (int32_t c = 0; c < extent_of(m); c += kLanes) {
        const __m512i bits = _mm512_loadu_si512(input.x + c);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(low + c), _mm512_cvtepi32_epi16(bits));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(low + extent_of(m) + c),
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

// The four slots of each row added up: (0 + 1) + (2 + 3). Each vector holds four rows.
__m512 row_sums(__m512 rows0, __m512 rows4, __m512 rows8, __m512 rows12) {
    constexpr int kEven = 0x88, kOdd = 0xdd;
    const __m512 low = _mm512_add_ps(_mm512_shuffle_ps(rows0, rows4, kEven), _mm512_shuffle_ps(rows0, rows4, kOdd));
    const __m512 high = _mm512_add_ps(_mm512_shuffle_ps(rows8, rows12, kEven), _mm512_shuffle_ps(rows8, rows12, kOdd));
    const __m512 sums = _mm512_add_ps(_mm512_shuffle_ps(low, high, kEven), _mm512_shuffle_ps(low, high, kOdd));
    // These are rows 0 4 8 12, 1 5 9 13 and so on.
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), sums);
}

// Writes the results of a group, in the order of its lanes.
void scatter(const Packed& m, int32_t top, int32_t lanes, __m512 results, float* y) {
    float each[kLanes];
    _mm512_storeu_ps(each, results);
    const uint16_t* rows = m.order + top;
    const int32_t count = m.rows - top < lanes ? m.rows - top : lanes;
    for (int32_t lane = 0; lane < count; ++lane) y[rows[lane]] = each[lane];
}

template <class V, int Window, int Parts, int B>
void float_group(const Packed& m, const Input* inputs, int32_t group, float* y, ptrdiff_t stride) {
    constexpr int kStep = Parts * kPartSlots, kGroup = Parts * kPartLanes;
    Planes planes[B];
    Looked sums[B][Parts];
    for (int b = 0; b < B; ++b) {
        const auto* low = static_cast<const uint16_t*>(inputs[b].extra);
        planes[b] = {low, low + extent_of(m)};
        for (Looked& each : sums[b]) each = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    }
    int64_t base = 0;
    for (int64_t step = m.starts[group]; step < m.starts[group + 1]; ++step) {
        base += m.advance[step];
        const auto* w = values_of<typename V::Stored>(m) + step * kStep;
        const uint8_t* slots = m.slots + step * kStep;
        for (size_t at = 0; at < kStep * sizeof *w; at += 64) prefetch(w, kAhead + static_cast<int>(at));
        prefetch(slots, kAhead);
        for (int part = 0; part < Parts; ++part) {
            const auto* own = w + part * kPartSlots;
            const __m512 first = V::load(own), second = V::load(own + kLanes);
            const __m512i columns = columns_of(slots + part * kPartSlots);
            for (int b = 0; b < B; ++b) {
                const Looked x = look_up<Window>(Planes{planes[b].low + base, planes[b].high + base}, columns);
                sums[b][part].first = _mm512_fmadd_ps(first, x.first, sums[b][part].first);
                sums[b][part].second = _mm512_fmadd_ps(second, x.second, sums[b][part].second);
            }
        }
    }
    for (int b = 0; b < B; ++b) {
        const Looked &low = sums[b][0], &high = sums[b][Parts - 1];  // of eight rows, the upper lanes are not used
        scatter(m, group * kGroup, kGroup, row_sums(low.first, low.second, high.first, high.second), y + b * stride);
    }
}

// ---- bytes: the four slots of a row are what one lane of vpdpbusd adds up

// The bytes of a step; zeros where the second part would be if there is none.
template <int Parts>
__m512i step_of(const void* from) {
    return Parts == 2 ? load_bytes(from) : _mm512_zextsi256_si512(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
}

template <int Window>
__m512i look_up(const uint8_t* x, __m512i columns) {
    if (Window == 64) return _mm512_permutexvar_epi8(columns, load_bytes(x));
    const __m512i near = _mm512_permutex2var_epi8(load_bytes(x), columns, load_bytes(x + kBytes));
    if (Window == 128) return near;
    const __m512i far = _mm512_permutex2var_epi8(load_bytes(x + 2 * kBytes), columns, load_bytes(x + 3 * kBytes));
    return _mm512_mask_mov_epi8(near, _mm512_movepi8_mask(columns), far);
}

// Weights of a step come times 2^kShift, which leaves room for all sums: see kMostInt8Columns (matrix/matrix.cpp).
struct Int8Weights {
    static constexpr int kShift = 0;
    template <int Parts>
    static __m512i of_step(const Packed& m, int64_t step) {
        const int8_t* w = values_of<int8_t>(m) + step * Parts * kPartSlots;
        prefetch(w, kAhead);
        return step_of<Parts>(w);
    }
};

// The bytes of a step, two weights each; zeros where the second part would be if there is none.
template <int Parts>
__m256i nibbles_of(const uint8_t* from) {
    return Parts == 2 ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))
                      : _mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

// A weight in the upper half of a byte is signed as it is, and 16 times itself.
struct Int4Weights {
    static constexpr int kShift = 4;
    template <int Parts>
    static __m512i of_step(const Packed& m, int64_t step) {
        const uint8_t* w = values_of<uint8_t>(m) + step * Parts * kPartSlots / 2;
        prefetch(w, kAhead);
        // Each byte of two weights is widened to 16 bits. Of each 64 bits, byte 2 i then takes those from 16 i - 4 on and
        // byte 2 i + 1 those from 16 i on, so that the upper half of each is its weight.
        const __m512i places = _mm512_set1_epi64(0x302c201c100c003c);
        const __m512i spread = _mm512_multishift_epi64_epi8(places, _mm512_cvtepu8_epi16(nibbles_of<Parts>(w)));
        return _mm512_and_si512(spread, _mm512_set1_epi8(-16));
    }
};

// Steps alternate between two sums: vpdpbusd waits four cycles for the one before it.
template <class W, int Window, int Parts, int B>
class ByteSums {
public:
    ByteSums(const Packed& m, const Input* inputs) : m_(m) {
        for (int b = 0; b < B; ++b) x_[b] = unsigned_input(inputs[b]);
        for (auto& chains : sums_)
            for (__m512i& sum : chains) sum = _mm512_setzero_si512();
    }

    void add(int64_t step, int chain) {
        constexpr int kStep = Parts * kPartSlots;
        base_ += m_.advance[step];
        const uint8_t* slots = m_.slots + step * kStep;
        prefetch(slots, kAhead);
        const __m512i weights = opaque(W::template of_step<Parts>(m_, step)), columns = step_of<Parts>(slots);
        for (int b = 0; b < B; ++b)
            sums_[b][chain] = _mm512_dpbusd_epi32(sums_[b][chain], look_up<Window>(x_[b] + base_, columns), weights);
    }

    __m512i result(int b) const { return _mm512_add_epi32(sums_[b][0], sums_[b][1]); }

private:
    static constexpr int kChains = 2;

    const Packed& m_;
    const uint8_t* x_[B];
    int64_t base_ = 0;
    __m512i sums_[B][kChains];
};

template <class W, int Window, int Parts, int B>
void byte_group(const Packed& m, const Input* inputs, int32_t group, float* y, ptrdiff_t stride) {
    constexpr int kGroup = Parts * kPartLanes;
    ByteSums<W, Window, Parts, B> all(m, inputs);
    int64_t step = m.starts[group];
    for (; step + 2 <= m.starts[group + 1]; step += 2) {
        all.add(step, 0);
        all.add(step + 1, 1);
    }
    if (step < m.starts[group + 1]) all.add(step, 0);
    const int32_t top = group * kGroup;
    const __m512 scales = _mm512_loadu_ps(m.lane_scales + top);
    const __m512i own = _mm512_slli_epi32(_mm512_loadu_si512(m.lane_sums + top), 7 + W::kShift);
    for (int b = 0; b < B; ++b) {
        const __m512i sums = _mm512_srai_epi32(_mm512_sub_epi32(all.result(b), own), W::kShift);
        const __m512 scale = _mm512_mul_ps(scales, _mm512_set1_ps(inputs[b].scale));
        scatter(m, top, kGroup, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(sums)), y + b * stride);
    }
}

// ---- running over groups and inputs

template <class V, int Window, int Parts>
struct Floats {
    template <int B>
    static void group(const Packed& m, const Input* inputs, int32_t group, float* y, ptrdiff_t stride) {
        float_group<V, Window, Parts, B>(m, inputs, group, y, stride);
    }
};

template <class W, int Window, int Parts>
struct Bytes {
    template <int B>
    static void group(const Packed& m, const Input* inputs, int32_t group, float* y, ptrdiff_t stride) {
        byte_group<W, Window, Parts, B>(m, inputs, group, y, stride);
    }
};

template <class V, int Parts>
Kernel* floats_for(int32_t window) {
    if (window == 64) return run_groups<Floats<V, 64, Parts>>;
    return window == 128 ? run_groups<Floats<V, 128, Parts>> : run_groups<Floats<V, 256, Parts>>;
}

template <class W, int Parts>
Kernel* bytes_for(int32_t window) {
    if (window == 64) return run_groups<Bytes<W, 64, Parts>>;
    return window == 128 ? run_groups<Bytes<W, 128, Parts>> : run_groups<Bytes<W, 256, Parts>>;
}

template <class V>
void run_floats(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
                ptrdiff_t stride) {
    const auto kernels = m.parameter[1] == kPartLanes ? floats_for<V, 1> : floats_for<V, 2>;
    kernels(m.parameter[0])(m, inputs, batch, first, last, y, stride);
}

template <class W>
void run_bytes(const Packed& m, const Input* inputs, int batch, int32_t first, int32_t last, float* y,
               ptrdiff_t stride) {
    const auto kernels = m.parameter[1] == kPartLanes ? bytes_for<W, 1> : bytes_for<W, 2>;
    kernels(m.parameter[0])(m, inputs, batch, first, last, y, stride);
}

}  // namespace

void avx512::add_window(Kernels& kernels) {
    set(kernels, Format::window, Value::fp32, {run_floats<Fp32>, planes_bytes, prepare_planes});
    set(kernels, Format::window, Value::fp16, {run_floats<Fp16>, planes_bytes, prepare_planes});
    set(kernels, Format::window, Value::bf16, {run_floats<Bf16>, planes_bytes, prepare_planes});
    set(kernels, Format::window, Value::int8, {run_bytes<Int8Weights>, unsigned_bytes, prepare_unsigned});
    set(kernels, Format::window, Value::int4, {run_bytes<Int4Weights>, unsigned_bytes, prepare_unsigned});
}

}  // namespace cspbench
