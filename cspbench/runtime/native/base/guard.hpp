// Memory that must not be touched, under AddressSanitizer; nothing at all without it.
//
// The arrays of a matrix lie side by side in one allocation, where the sanitiser would see nothing of a kernel that
// reads from one into the next.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define CSPBENCH_GUARDED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CSPBENCH_GUARDED
#endif
#endif

#if defined(CSPBENCH_GUARDED)
#include <sanitizer/asan_interface.h>
#endif

namespace cspbench {

#if defined(CSPBENCH_GUARDED)
constexpr size_t kGuard = 1024;  // bytes to leave between things, in multiples of kAlignment
inline void forbid(const void* memory, size_t size) { __asan_poison_memory_region(memory, size); }
inline void allow(const void* memory, size_t size) { __asan_unpoison_memory_region(memory, size); }
#else
constexpr size_t kGuard = 0;
inline void forbid(const void*, size_t) {}
inline void allow(const void*, size_t) {}
#endif

}  // namespace cspbench
