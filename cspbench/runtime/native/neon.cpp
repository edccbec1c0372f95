// Which kernels 64-bit ARM has of its own. CSR and N:M keep the portable ones: columns are looked up one by one in any
// case.
#include "neon.hpp"

namespace cspbench {

void add_neon(Kernels& kernels) {
    add_rows_neon(kernels);
    add_bytes_neon(kernels);
    add_window_neon(kernels);
    add_dot_neon(kernels);
}

}  // namespace cspbench
