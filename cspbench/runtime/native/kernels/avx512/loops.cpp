#include "kernels/shared/loops.hpp"

#include "kernels/instruction_sets.hpp"

namespace cspbench {

const Loops avx512::compiled_loops = all_loops;

}  // namespace cspbench
