// All kernels for AVX-512.
#include "kernels/avx512/common.hpp"
#include "kernels/instruction_sets.hpp"

namespace cspbench {

void avx512::add_kernels(Kernels& kernels) {
    add_dense(kernels);
    add_bitmap(kernels);
    add_csr(kernels);
    add_nm(kernels);
    add_blocks(kernels);
    add_window(kernels);
    add_quantise(kernels);
    kernels.loops = &compiled_loops;
}

}  // namespace cspbench
