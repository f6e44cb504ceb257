// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/per_step/kernel_functions.hpp"

#include "backends/cuda/tiles/kernel_functions.hpp"

namespace gru::cuda {

const void* function_of(const Kernel& kernel) {
  switch (kernel.family) {
    case KernelFamily::none: return nullptr;
    case KernelFamily::simt: return simt_function(kernel.phase, kernel.tile);
    case KernelFamily::dfma: return double_function(kernel.phase);
    case KernelFamily::tensor: return tensor_function(kernel.phase, kernel.tile);
    case KernelFamily::unit: return unit_function(kernel.phase, kernel.tile.rows);
    case KernelFamily::recurrent: return recurrent_function(kernel.tile);
    case KernelFamily::transpose_state: return transpose_function();
    case KernelFamily::by_length: return by_length_function(kernel.phase, kernel.tile);
    case KernelFamily::gather: return gather_function(kernel.phase);
    case KernelFamily::hopper: return hopper_function(kernel.tile);
    case KernelFamily::slice_state: return slice_function(kernel.factors, kernel.parts);
    case KernelFamily::sequence: return sequence_function(kernel.factors);
    case KernelFamily::pipelined: return pipelined_function(kernel.tile, kernel.factors, kernel.parts);
    case KernelFamily::slice_input: return slice_input_function(kernel.factors, kernel.parts);
    case KernelFamily::copy_input: return copy_input_function(kernel.factors);
  }
  return nullptr;
}

}  // namespace gru::cuda
