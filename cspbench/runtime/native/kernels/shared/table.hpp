// Filling in the table of kernels. In an anonymous namespace: see base/format.hpp.
#pragma once

#include "base/format.hpp"

namespace cspbench {
namespace {

[[maybe_unused]] const Entry& entry_of(const Kernels& kernels, Format format, Value value) {
    return kernels.at[static_cast<int>(format)][static_cast<int>(value)];
}

[[maybe_unused]] void set(Kernels& kernels, Format format, Value value, const Entry& entry) {
    kernels.at[static_cast<int>(format)][static_cast<int>(value)] = entry;
}

}  // namespace
}  // namespace cspbench
