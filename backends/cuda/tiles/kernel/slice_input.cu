// SPDX-License-Identifier: Apache-2.0
// The caller's inputs, whatever their strides, into slices as pipelined_step.cuh multiplies them: (T, slices, rows, 128
// bytes), rounded to the products' type, zero in the padding. Bound by memory: reads and writes each input once.

#include "backends/cuda/device/half_words.cuh"
#include "backends/cuda/per_step/kernel/hopper_pipeline.cuh"
#include "backends/cuda/tiles/kernel_functions.hpp"

namespace gru::cuda {
namespace {

/// Block: 32 rows x a slice, a thread 16 bytes of it; x: rows of all steps, y: slices.
template <class Element, int kParts = 1>
__global__ void slice_input(const __grid_constant__ StepArgs a, const __grid_constant__ CallTensors inline_call) {
  constexpr int kFeatures = 16 / static_cast<int>(sizeof(Element));
  const CallTensors& c = a.call != nullptr ? *a.call : inline_call;
  let_next_start();
  wait_for_previous();
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kCopyRows + static_cast<int>(threadIdx.x) / 8;
  if (row >= static_cast<std::int64_t>(a.steps) * a.batch) return;
  const int t = static_cast<int>(row / a.batch), b = static_cast<int>(row % a.batch);
  const int k = (static_cast<int>(blockIdx.y) * 8 + static_cast<int>(threadIdx.x) % 8) * kFeatures;
  const Matrix<float> x = input_at<float>(a, c, t);
  auto* to = static_cast<Element*>(a.copied_input) +
             static_cast<std::int64_t>(t) * kParts * a.input_padded * a.formed_rows +
             sliced_at<Element, kParts>(a.formed_rows, b, k);
  const float4 v = load_features(x.row(b), x.stride_k, x.vectors, k, a.input_size);
  if constexpr (sizeof(Element) == 4) {
    store_tf32<kParts>(to, v);
  } else {
    const float4 w = load_features(x.row(b), x.stride_k, x.vectors, k + 4, a.input_size);
    *reinterpret_cast<uint4*>(to) = make_uint4(rounded_pair<Element>(v.x, v.y), rounded_pair<Element>(v.z, v.w),
                                               rounded_pair<Element>(w.x, w.y), rounded_pair<Element>(w.z, w.w));
  }
}

}  // namespace

const void* slice_input_function(Factors factors, int parts) {
  return parts > 1                      ? reinterpret_cast<const void*>(&slice_input<float, 2>)
         : factors == Factors::float16  ? reinterpret_cast<const void*>(&slice_input<Float16>)
         : factors == Factors::bfloat16 ? reinterpret_cast<const void*>(&slice_input<BFloat16>)
                                        : reinterpret_cast<const void*>(&slice_input<float>);
}

const void* pipelined_function(const TileShape& tile, Factors factors, int parts) {
  return parts > 1                      ? pipelined_parts(tile)
         : factors == Factors::float16  ? pipelined_float16(tile)
         : factors == Factors::bfloat16 ? pipelined_bfloat16(tile)
                                        : pipelined_tf32(tile);
}

}  // namespace gru::cuda
