// Vector registers as plain memory: what the emulated instructions of immintrin.h, beside this, work on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace emulated {

template <size_t Bytes, class Kind>
struct alignas(Bytes) Register {
    unsigned char raw[Bytes];
};

template <class T, class R>
using Lanes = std::array<T, sizeof(R) / sizeof(T)>;

template <class T, class R>
Lanes<T, R> split(const R& from) {
    Lanes<T, R> lanes;
    std::memcpy(lanes.data(), &from, sizeof from);
    return lanes;
}

template <class R, class T, size_t N>
R join(const std::array<T, N>& lanes) {
    static_assert(sizeof(R) == sizeof lanes);
    R to;
    std::memcpy(&to, lanes.data(), sizeof to);
    return to;
}

template <class R>
R read(const void* from) {
    R to;
    std::memcpy(&to, from, sizeof to);
    return to;
}

// A lane for each lane number.
template <class R, class T, class F>
R made(const F& lane) {
    Lanes<T, R> lanes;
    for (size_t i = 0; i < lanes.size(); ++i) lanes[i] = static_cast<T>(lane(i));
    return join<R>(lanes);
}

template <class T, class R>
R filled(T value) {
    return made<R, T>([&](size_t) { return value; });
}

template <class T, class R, class F>
R each(const R& a, const F& f) {
    const auto x = split<T>(a);
    return made<R, T>([&](size_t i) { return f(x[i]); });
}

template <class T, class R, class F>
R pairs(const R& a, const R& b, const F& f) {
    const auto x = split<T>(a), y = split<T>(b);
    return made<R, T>([&](size_t i) { return f(x[i], y[i]); });
}

// From lanes of one type to as many of another.
template <class R, class T, class From, class A>
R converted(const A& a) {
    const auto x = split<From>(a);
    return made<R, T>([&](size_t i) { return x[i]; });
}

inline float float_of_half(uint16_t half) {
    const int exponent = half >> 10 & 31;
    float value = exponent ? static_cast<float>((half & 1023) + 1024) : static_cast<float>(half & 1023);
    for (int i = 0; i < 25; ++i) value /= 2;
    for (int i = 1; i < (exponent ? exponent : 1) + 1; ++i) value *= 2;
    return half & 0x8000 ? -value : value;
}

}  // namespace emulated
