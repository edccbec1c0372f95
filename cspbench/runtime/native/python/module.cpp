// The Python module cspbench.runtime._native.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "base/timing.hpp"
#include "kernels/dispatch.hpp"
#include "python/bind.hpp"

NB_MODULE(_native, module) {
    using namespace cspbench;
    module.doc() = "Products of packed matrices, and the streaming recogniser made of them; native code.";
    module.def("instruction_sets", instruction_sets,
               "Instruction sets that this build and this processor have, the best last.");
    module.def("current", current_instruction_set, "The instruction set in use.");
    module.def("use", use_instruction_set, nanobind::arg("name"),
               "Use this instruction set from now on, in the whole process. ValueError if it is not available.");
    module.def("clock_overhead", clock_overhead, "Median seconds between two readings of the clock that `time` uses.");
    bind_matrix(module);
    bind_bandwidth(module);
    bind_network(module);
    bind_conformer(module);
}
