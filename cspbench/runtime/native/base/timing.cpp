#include "base/timing.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/arena.hpp"

namespace cspbench {

double clock_overhead() {
    std::vector<double> gaps(1001);
    for (double& gap : gaps) {
        const auto before = Clock::now();
        gap = seconds(Clock::now() - before);
    }
    std::nth_element(gaps.begin(), gaps.begin() + 500, gaps.end());
    return gaps[500];
}

void evict(size_t bytes) {
    static std::mutex alone;
    static Arena arena;
    std::lock_guard<std::mutex> lock(alone);
    if (arena.size() < bytes) {
        arena = Arena(bytes);
        std::memset(arena.data(), 1, bytes);  // or every page would be the one page of zeros
    }
    uint64_t sum = 0;
    const auto* words = reinterpret_cast<const uint64_t*>(arena.data());
    for (size_t i = 0; i < bytes / 8; i += 8) sum += words[i];  // one of each cache line
    static volatile uint64_t sink;
    sink = sum;
    (void)sink;
}

}  // namespace cspbench
