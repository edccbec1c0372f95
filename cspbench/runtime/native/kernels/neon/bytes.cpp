#include "kernels/neon/bytes.hpp"

namespace cspbench {

void neon::add_bytes(Kernels& kernels) { add_byte_kernels(kernels); }

}  // namespace cspbench
