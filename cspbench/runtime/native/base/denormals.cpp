#include "base/denormals.hpp"

#if defined(__SSE__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace cspbench {

// Results are flushed, operands are not: kernels turn fp16 into floats by way of denormal numbers. 64-bit ARM cannot
// have the one without the other, and its processors are not slowed by them.
#if defined(__SSE__) || defined(_M_X64)
FlushDenormals::FlushDenormals() : before_(_mm_getcsr()) {
    _mm_setcsr(static_cast<unsigned>(before_) | _MM_FLUSH_ZERO_ON);
}
FlushDenormals::~FlushDenormals() { _mm_setcsr(static_cast<unsigned>(before_)); }
#else
FlushDenormals::FlushDenormals() : before_(0) {}
FlushDenormals::~FlushDenormals() {}
#endif

}  // namespace cspbench
