#include "base/bandwidth.hpp"

#include "python/bind.hpp"

namespace cspbench {

void bind_bandwidth(nb::module_& module) {
    module.def(
        "read_bandwidth",
        [](size_t bytes, double seconds) {
            nb::gil_scoped_release others;
            return read_bandwidth(bytes, seconds);
        },
        nb::arg("bytes"), nb::arg("seconds") = 0.15,
        "Bytes a second at which one thread reads a buffer of `bytes` over and over: the best of several patterns.");
}

}  // namespace cspbench
