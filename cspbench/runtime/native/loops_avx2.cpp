#include "all_loops.hpp"

namespace cspbench {

const Loops avx2_loops = all_loops;

}  // namespace cspbench
