// The entry points of the folders beside this file, one for each instruction set.
//
// The same function has the same name in each folder: `add_kernels` overwrites the entries of the table that the
// instruction set has kernels for, `compiled_loops` are the elementwise loops as compiled with its flags.
#pragma once

#include "base/format.hpp"
#include "kernels/loops.hpp"

namespace cspbench {

namespace portable {
void add_kernels(Kernels& kernels);
extern const Loops compiled_loops;
}  // namespace portable

namespace avx2 {
void add_kernels(Kernels& kernels);
extern const Loops compiled_loops;
}  // namespace avx2

namespace avx512 {
void add_kernels(Kernels& kernels);
extern const Loops compiled_loops;
}

namespace neon {
void add_kernels(Kernels& kernels);
}

}  // namespace cspbench
