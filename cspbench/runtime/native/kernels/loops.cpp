#include "kernels/loops.hpp"

#include "kernels/dispatch.hpp"

namespace cspbench {

const Loops& loops() { return *kernels().loops; }

}  // namespace cspbench
