// Kernels for AVX2 (with FMA, F16C and BMI2).
#include "window.hpp"

namespace cspbench {

void add_avx2(Kernels& kernels) { add_window_avx2(kernels); }

}  // namespace cspbench
