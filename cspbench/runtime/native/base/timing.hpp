// Timing inside the module, so that no Python lies between two readings of the clock.
#pragma once

#include <chrono>
#include <cstddef>

namespace cspbench {

using Clock = std::chrono::steady_clock;

inline double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

// Median seconds between two readings of the clock in a row.
double clock_overhead();

// Reads so many bytes of memory that nothing else uses: what was in the caches is then gone. Choose more than the
// caches hold. The memory is kept for the next time. One thread at a time.
void evict(size_t bytes);

}  // namespace cspbench
