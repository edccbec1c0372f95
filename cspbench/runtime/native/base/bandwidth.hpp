// How fast one thread reads memory: the roof over everything that streams weights.
#pragma once

#include <cstddef>

namespace cspbench {

// Bytes a second at which a buffer of `bytes` (at least 4096; rounded down to 1 KiB) is read over and over: the fastest
// pass of the best of several patterns, `seconds` altogether. Buffers of 2 MiB and more lie in huge pages where the
// system grants them.
double read_bandwidth(std::size_t bytes, double seconds);

}  // namespace cspbench
