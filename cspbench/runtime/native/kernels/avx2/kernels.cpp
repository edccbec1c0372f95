// All kernels for AVX2, with FMA, F16C, BMI2 and POPCNT.
#include "kernels/avx2/common.hpp"
#include "kernels/instruction_sets.hpp"

namespace cspbench {

void avx2::add_kernels(Kernels& kernels) {
    add_dense(kernels);
    add_bitmap(kernels);
    add_csr(kernels);
    add_blocks(kernels);
    add_nm(kernels);
    add_window(kernels);
    add_quantise(kernels);
    kernels.loops = &compiled_loops;
}

}  // namespace cspbench
