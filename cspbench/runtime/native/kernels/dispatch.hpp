// Which kernels run: chosen once by what the processor can do, changed by `use`.
#pragma once

#include <string>
#include <vector>

#include "base/format.hpp"

namespace cspbench {

// Usable on this processor and compiled into this module; the best last, "portable" always first.
std::vector<std::string> instruction_sets();
std::string current_instruction_set();
// Throws std::invalid_argument if it is not one of `instruction_sets()`. Holds for the whole process.
void use_instruction_set(const std::string& name);
const Kernels& kernels();
// Those that run on any processor.
const Kernels& portable_kernels();

}  // namespace cspbench
