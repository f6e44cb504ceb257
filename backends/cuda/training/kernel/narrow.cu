// SPDX-License-Identifier: Apache-2.0
// Operands in 16 bits: rounded from float32, and summed. Bound by memory: 4 + 2 bytes an element, and 2.

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/device/half_words.cuh"
#include "backends/cuda/training/kernels.hpp"
#include "backends/cuda/training/narrow.hpp"

namespace gru::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = static_cast<int>(kFactorsAligned);  ///< elements of a thread: 16 bytes

/// A thread rounds eight elements of a row.
template <class E>
__global__ void __launch_bounds__(kThreads) narrow_kernel(const __grid_constant__ NarrowArgs a) {
  const long long item = static_cast<long long>(blockIdx.x) * kThreads + threadIdx.x, across = a.to_pitch / kEach;
  const long long row = item / across;
  if (row >= a.rows) return;
  const auto column = static_cast<int>(item % across) * kEach;
  const float* const from = a.from + row * a.pitch + column;
  float v[kEach];
  if (column + kEach <= a.columns && reinterpret_cast<std::uintptr_t>(from) % 16 == 0) {
    const float4 low = *reinterpret_cast<const float4*>(from), high = *reinterpret_cast<const float4*>(from + 4);
    v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
    v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
  } else {
#pragma unroll
    for (int i = 0; i < kEach; ++i) v[i] = column + i < a.columns ? from[i] : 0.0F;
  }
  *reinterpret_cast<uint4*>(static_cast<E*>(a.to) + row * a.to_pitch + column) =
      make_uint4(rounded_pair<E>(v[0], v[1]), rounded_pair<E>(v[2], v[3]), rounded_pair<E>(v[4], v[5]),
                 rounded_pair<E>(v[6], v[7]));
}

/// A block sums 64 columns of a part, two a lane, eight rows at a time, then its eight sums in order.
template <class E>
__global__ void __launch_bounds__(kThreads) narrow_sum_kernel(const __grid_constant__ ColumnSumArgs a) {
  __shared__ float2 sums[kThreads / 32][32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int column = (static_cast<int>(blockIdx.x) * 32 + lane) * 2;
  const long long first = static_cast<long long>(blockIdx.y) * a.rows_each;
  const long long end = min(first + a.rows_each, static_cast<long long>(a.rows));
  float2 sum = make_float2(0.0F, 0.0F);
  if (column < a.columns) {
#pragma unroll 4
    for (long long row = first + warp; row < end; row += kThreads / 32) {
      const unsigned pair =
          *reinterpret_cast<const unsigned*>(static_cast<const E*>(a.from) + row * a.columns + column);
      sum.x += to_float(E{static_cast<std::uint16_t>(pair)});
      sum.y += to_float(E{static_cast<std::uint16_t>(pair >> 16U)});
    }
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= a.columns) return;
  for (int i = 1; i < kThreads / 32; ++i) {
    sum.x += sums[i][lane].x;
    sum.y += sums[i][lane].y;
  }
  float* const to = static_cast<float*>(a.to) + static_cast<long long>(blockIdx.y) * a.columns + column;
  to[0] = sum.x;
  to[1] = sum.y;
}

const void* narrow_of(Factors factors) {
  return factors == Factors::bfloat16 ? reinterpret_cast<const void*>(&narrow_kernel<BFloat16>)
                                      : reinterpret_cast<const void*>(&narrow_kernel<Float16>);
}
const void* sum_of(Factors factors) {
  return factors == Factors::bfloat16 ? reinterpret_cast<const void*>(&narrow_sum_kernel<BFloat16>)
                                      : reinterpret_cast<const void*>(&narrow_sum_kernel<Float16>);
}

}  // namespace

void narrow_rows(StreamRef stream, Factors factors, const NarrowArgs& a) {
  const std::int64_t items = a.rows * (a.to_pitch / kEach);
  if (items == 0) return;
  Launch(dim3(blocks(items, kThreads)), dim3(kThreads), 0, stream)
      .start(narrow_of(factors), "a launch that rounds an operand", a);
}

void sum_narrow_columns(StreamRef stream, Factors factors, const ColumnSumArgs& a) {
  if (a.rows == 0 || a.columns == 0) return;
  Launch(dim3(blocks(a.columns, 64), blocks(a.rows, a.rows_each)), dim3(kThreads), 0, stream)
      .start(sum_of(factors), "a launch of sums", a);
}

void load_narrow_kernels(Factors factors) {
  load_kernel(narrow_of(factors));
  load_kernel(sum_of(factors));
}

}  // namespace gru::cuda
