// Everything of struct Loops, for a file that compiles it for an instruction set.
#pragma once

#include "kernels/shared/activations.hpp"
#include "kernels/shared/fbank.hpp"

namespace cspbench {
namespace {

constexpr Loops all_loops{exponential, sigmoid, tanh, logarithm, tanh_of_sum, gates, mel_energies};

}  // namespace
}  // namespace cspbench
