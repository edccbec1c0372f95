#include "bytes_neon.hpp"

namespace cspbench {

void add_bytes_neon(Kernels& kernels) { add_bytes(kernels); }

}  // namespace cspbench
