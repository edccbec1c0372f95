// The kernels of bytes once more, for processors with the dot product (ARMv8.2 and later, most of them).
#if defined(__ARM_FEATURE_DOTPROD)
#define CSPBENCH_DOT  // all that this compiler makes is for such a processor
#elif defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("arch=armv8.2-a+dotprod")
#define CSPBENCH_DOT
#define CSPBENCH_ASK  // whether this processor has it
#endif

#if defined(CSPBENCH_ASK)
#include <sys/auxv.h>
#endif

#include "kernels/neon/bytes.hpp"

namespace cspbench {

void neon::add_dot([[maybe_unused]] Kernels& kernels) {
#if defined(CSPBENCH_ASK)
    constexpr unsigned long kDotProduct = 1 << 20;  // HWCAP_ASIMDDP
    if (!(getauxval(AT_HWCAP) & kDotProduct)) return;
#endif
#if defined(CSPBENCH_DOT)
    add_byte_kernels(kernels);
#endif
}

}  // namespace cspbench
