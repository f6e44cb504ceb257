// SPDX-License-Identifier: Apache-2.0
// The inputs of some steps, whatever their strides, into rows that a dense product reads: (direction or all, row, K_x
// padded), zero in the padding, rounded to TF32 (to nearest) where the product would cut bits off. Rows lie as the
// projection's (step_common.cuh). Or as elements of 16 bits. Bound by memory: reads and writes each input once.
// For the layer that reads the caller's tensor; layers above read the buffer that the layer below wrote.

#include "backends/cuda/device/half_words.cuh"
#include "backends/cuda/per_step/kernel/step_common.cuh"
#include "backends/cuda/per_step/kernel_functions.hpp"

namespace gru::cuda {
namespace {

/// Block: 32 rows x 8 pieces of four features. Element: what the product reads.
template <class Element>
__global__ void copy_input(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  let_next_start();
  wait_for_previous();
  const int d = static_cast<int>(blockIdx.z);
  const int row = static_cast<int>(blockIdx.x) * kCopyRows + static_cast<int>(threadIdx.x) / 8;
  const int k = static_cast<int>(blockIdx.y) * kCopyFeatures + static_cast<int>(threadIdx.x) % 8 * 4;
  if (row >= a.projected_steps * a.batch) return;
  const Matrix<float> x = input_at<float>(a, c, first_time(a, d) + row / a.batch);
  float4 v = load_features(x.row(row % a.batch), x.stride_k, x.vectors, k, a.input_size);
  Element* to = static_cast<Element*>(a.copied_input) +
                (static_cast<std::int64_t>(d) * a.projection_rows + row) * a.input_padded + k;
  if constexpr (sizeof(Element) == 4)
    *reinterpret_cast<float4*>(to) = a.round ? rounded_to_tf32(v) : v;
  else
    *reinterpret_cast<uint2*>(to) = make_uint2(rounded_pair<Element>(v.x, v.y), rounded_pair<Element>(v.z, v.w));
}

}  // namespace

const void* copy_input_function(Factors factors) {
  return factors == Factors::float16    ? reinterpret_cast<const void*>(&copy_input<Float16>)
         : factors == Factors::bfloat16 ? reinterpret_cast<const void*>(&copy_input<BFloat16>)
                                        : reinterpret_cast<const void*>(&copy_input<float>);
}

}  // namespace gru::cuda
