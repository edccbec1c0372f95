// All portable kernels: every entry of the table.
#include "kernels/instruction_sets.hpp"
#include "kernels/portable/common.hpp"

namespace cspbench {

void portable::add_kernels(Kernels& kernels) {
    add_rows(kernels);
    add_window(kernels);
    add_quantise(kernels);
    kernels.loops = &compiled_loops;
}

}  // namespace cspbench
