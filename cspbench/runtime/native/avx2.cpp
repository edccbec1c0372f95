// The kernels for AVX2 (with FMA, F16C, BMI2 and POPCNT).
#include "avx2.hpp"

namespace cspbench {

void add_avx2(Kernels& kernels) {
    add_dense_avx2(kernels);
    add_bitmap_avx2(kernels);
    add_csr_avx2(kernels);
    add_window_avx2(kernels);
}

}  // namespace cspbench
