// All kernels for AVX-512. CSR keeps the AVX2 ones: a gather costs as much as sixteen loads, and nothing else in it is
// done sixteen at a time.
#include "kernels/avx512/common.hpp"
#include "kernels/instruction_sets.hpp"

namespace cspbench {

void avx512::add_kernels(Kernels& kernels) {
    add_dense(kernels);
    add_bitmap(kernels);
    add_nm(kernels);
    add_blocks(kernels);
    add_window(kernels);
    add_quantise(kernels);
}

}  // namespace cspbench
