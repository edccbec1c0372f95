#include "kernels/loops.hpp"

#include <string>

#include "kernels/dispatch.hpp"
#include "kernels/instruction_sets.hpp"

namespace cspbench {

const Loops& loops() {
    const std::string name = current_instruction_set();
#if defined(CSPBENCH_AVX2)
    if (name == "avx2" || name == "avx512") return avx2::compiled_loops;
#endif
    return portable::compiled_loops;
}

}  // namespace cspbench
