// All kernels for 64-bit ARM. CSR and N:M keep the portable ones: columns are looked up one by one in any case.
#include "kernels/instruction_sets.hpp"
#include "kernels/neon/common.hpp"

namespace cspbench {

void neon::add_kernels(Kernels& kernels) {
    add_dense(kernels);
    add_bitmap(kernels);
    add_blocks(kernels);
    add_window(kernels);
    add_bytes(kernels);
    add_dot(kernels);
}

}  // namespace cspbench
