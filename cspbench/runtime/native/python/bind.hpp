// The parts of the Python module, and conversions that all of them use.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <stdexcept>

#include "matrix/matrix.hpp"

namespace cspbench {

namespace nb = nanobind;

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;

// A new numpy array that owns `data`, made by new T[].
template <class T>
nb::object owned_array(T* data, std::initializer_list<size_t> shape) {
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return nb::cast(nb::ndarray<nb::numpy, T>(data, shape, owner));
}

// Throws std::invalid_argument unless there may be so many.
inline void check_threads(int threads) {
    if (threads < 1 || threads > 256) throw std::invalid_argument("threads must be 1 to 256");
}

void bind_matrix(nb::module_& module);
void bind_bandwidth(nb::module_& module);
void bind_network(nb::module_& module);
void bind_conformer(nb::module_& module);

}  // namespace cspbench
