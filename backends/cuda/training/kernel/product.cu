// SPDX-License-Identifier: Apache-2.0
// c[g] (rows, columns) = a[g] (rows, depth) b[g] (columns, depth)^T (+ c[g]), any strides, float or double; or a and b of 16 bits, c
// float.
//
// A block makes a tile of 64 x 64 with 256 threads of 4 x 4 sums; slices of 16 along the depth come through shared memory
// (8.4 KB in float). 2 flops for each of rows x columns x depth; half of the FMA peak at best. For what cuBLASLt was not
// asked for: other sizes than the plan's, odd addresses, builds without it. Sums run along the depth in order.

#include "backends/cuda/training/product.hpp"
#include "gru/half.hpp"

namespace gru::cuda {
namespace {

constexpr int kTile = kProductTile, kDepth = 16, kEach = 4;
static_assert(kTile / kEach * (kTile / kEach) == kProductThreads);

__device__ inline float value_of(float v) { return v; }
__device__ inline double value_of(double v) { return v; }
__device__ inline float value_of(Float16 v) { return to_float(v); }
__device__ inline float value_of(BFloat16 v) { return to_float(v); }

/// A slice of an operand, (kTile rows, kDepth), zero outside. Consecutive threads read along whichever stride is 1.
template <class T, class E>
__device__ void load_slice(T (&to)[kDepth][kTile + 1], const E* from, long long first_row, long long rows,
                           long long row_stride, long long first_k, long long depth, long long depth_stride) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kTile * kDepth / kProductThreads; ++i) {
    const int at = thread + i * kProductThreads;
    const int k = depth_stride == 1 ? at % kDepth : at / kTile;
    const int row = depth_stride == 1 ? at / kDepth : at % kTile;
    const bool inside = first_row + row < rows && first_k + k < depth;
    to[k][row] = inside ? value_of(from[(first_row + row) * row_stride + (first_k + k) * depth_stride]) : T(0);
  }
}

template <class T, class E>
__global__ void __launch_bounds__(kProductThreads) multiply(const __grid_constant__ ProductArgs args) {
  __shared__ T a_slice[kDepth][kTile + 1];
  __shared__ T b_slice[kDepth][kTile + 1];
  const ProductShape& s = args.shape;
  const auto batch = static_cast<long long>(blockIdx.z);
  const E* a = static_cast<const E*>(args.a) + batch * s.a_batch;
  const E* b = static_cast<const E*>(args.b) + batch * s.b_batch;
  T* c = static_cast<T*>(args.c) + batch * s.c_batch;
  const long long row = static_cast<long long>(blockIdx.x) * kTile, column = static_cast<long long>(blockIdx.y) * kTile;
  const int thread = static_cast<int>(threadIdx.x), in_row = thread / (kTile / kEach),
            in_column = thread % (kTile / kEach);
  T sums[kEach][kEach] = {};
  for (long long k = 0; k < s.depth; k += kDepth) {
    load_slice(a_slice, a, row, s.rows, s.a_row, k, s.depth, s.a_depth);
    load_slice(b_slice, b, column, s.columns, s.b_column, k, s.depth, s.b_depth);
    __syncthreads();
#pragma unroll
    for (int q = 0; q < kDepth; ++q) {
      T left[kEach], right[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) left[i] = a_slice[q][in_row + i * (kTile / kEach)];
#pragma unroll
      for (int i = 0; i < kEach; ++i) right[i] = b_slice[q][in_column + i * (kTile / kEach)];
#pragma unroll
      for (int i = 0; i < kEach; ++i)
#pragma unroll
        for (int j = 0; j < kEach; ++j) sums[i][j] += left[i] * right[j];
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const long long r = row + in_row + i * (kTile / kEach);
    if (r >= s.rows) break;
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const long long at = column + in_column + j * (kTile / kEach);
      if (at >= s.columns) break;
      T& to = c[r * s.c_row + at];
      to = s.add ? to + sums[i][j] : sums[i][j];
    }
  }
}

}  // namespace

const void* product_kernel(DType dtype, Factors factors) {
  if (factors == Factors::float16) return reinterpret_cast<const void*>(&multiply<float, Float16>);
  if (factors == Factors::bfloat16) return reinterpret_cast<const void*>(&multiply<float, BFloat16>);
  return dtype == DType::float64 ? reinterpret_cast<const void*>(&multiply<double, double>)
                                 : reinterpret_cast<const void*>(&multiply<float, float>);
}

}  // namespace gru::cuda
