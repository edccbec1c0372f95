#include "base/bandwidth.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "base/arena.hpp"
#include "base/timing.hpp"

#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>
#define CSPBENCH_WIDE_READS 1
#endif

namespace cspbench {
namespace {

constexpr std::size_t kChunk = 1024;  // what a pattern reads at a time; buffers are multiples of it
constexpr double kShortest = 5e-5;    // seconds between two readings of the clock, at least

// A pattern reads the whole buffer once and returns something that depends on all of it.
using Pattern = std::uint64_t (*)(const unsigned char*, std::size_t);

std::uint64_t plain(const unsigned char* data, std::size_t bytes) {
    std::uint64_t sums[8] = {};
    for (std::size_t at = 0; at < bytes; at += 64) {
        std::uint64_t line[8];
        std::memcpy(line, data + at, 64);
        for (int lane = 0; lane < 8; ++lane) sums[lane] += line[lane];
    }
    std::uint64_t total = 0;
    for (std::uint64_t sum : sums) total += sum;
    return total;
}

#ifdef CSPBENCH_WIDE_READS

// Distance > 0 asks for lines so far ahead. Streams > 1 read as many parts of the buffer side by side.
template <int Streams, int Distance>
__attribute__((target("avx2"))) std::uint64_t wide(const unsigned char* data, std::size_t bytes) {
    const std::size_t part = bytes / Streams;
    __m256i sums[8];
    for (auto& sum : sums) sum = _mm256_setzero_si256();
    for (std::size_t at = 0; at < part; at += 256 / Streams) {
        for (int stream = 0; stream < Streams; ++stream) {
            const unsigned char* from = data + stream * part + at;
            for (int chunk = 0; chunk < 8 / Streams; ++chunk) {
                const int lane = stream * (8 / Streams) + chunk;
                if (Distance > 0 && chunk % 2 == 0)
                    _mm_prefetch(reinterpret_cast<const char*>(from + 32 * chunk + Distance), _MM_HINT_T0);
                const __m256i loaded = _mm256_load_si256(reinterpret_cast<const __m256i*>(from + 32 * chunk));
                sums[lane] = _mm256_add_epi64(sums[lane], loaded);
            }
        }
    }
    for (int lane = 1; lane < 8; ++lane) sums[0] = _mm256_add_epi64(sums[0], sums[lane]);
    alignas(32) std::uint64_t out[4];
    _mm256_store_si256(reinterpret_cast<__m256i*>(out), sums[0]);
    return out[0] + out[1] + out[2] + out[3];
}

#endif

volatile std::uint64_t sink;  // what is written here is not optimised away

// Seconds of the fastest pass within `seconds`. Short passes are timed several together.
double fastest(Pattern pattern, const unsigned char* data, std::size_t bytes, double seconds) {
    auto began = Clock::now();
    sink = pattern(data, bytes);
    const double once = std::max(cspbench::seconds(Clock::now() - began), 1e-9);
    const int together = std::max(1, static_cast<int>(kShortest / once));
    double best = once;
    const auto first = Clock::now();
    do {
        began = Clock::now();
        for (int pass = 0; pass < together; ++pass) sink = pattern(data, bytes);
        best = std::min(best, cspbench::seconds(Clock::now() - began) / together);
    } while (cspbench::seconds(Clock::now() - first) < seconds);
    return best;
}

}  // namespace

double read_bandwidth(std::size_t bytes, double seconds) {
    bytes = std::max<std::size_t>(bytes, 4096) / kChunk * kChunk;
    const Arena memory(bytes);
    std::memset(memory.data(), 1, bytes);  // or every page would be the one page of zeros
    const unsigned char* data = memory.data();
    double best = fastest(plain, data, bytes, seconds / 4);
#ifdef CSPBENCH_WIDE_READS
    if (__builtin_cpu_supports("avx2")) {
        for (Pattern pattern : {Pattern{wide<1, 0>}, Pattern{wide<1, 512>}, Pattern{wide<4, 0>}})
            best = std::min(best, fastest(pattern, data, bytes, seconds / 4));
    }
#endif
    return static_cast<double>(bytes) / best;
}

}  // namespace cspbench
