// SPDX-License-Identifier: Apache-2.0
// A counting sort of rows by length in one block: how many rows each part of the lengths has, where each part begins, and the
// rows into their parts. 2 B reads of lengths and B writes; bound by latency up to some ten thousand rows.

#include <cuda_runtime.h>

#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/row_order.hpp"
#include "backends/cuda/device/lengths.cuh"

namespace gru::cuda {
namespace {

constexpr int kThreads = kLengthParts;  // a thread a part

__global__ void __launch_bounds__(kThreads)
    sort_rows(const __grid_constant__ CallTensors c, int steps, int batch, int* order) {
  __shared__ int places[kLengthParts], of_warps[kThreads / 32];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const int width = steps / kLengthParts + 1;  // lengths 0 .. steps in at most kLengthParts parts
  const auto part_of = [&](int b) {
    return kLengthParts - 1 - valid_steps(c.lengths, c.lengths_stride, c.lengths_are_64bit, b, steps) / width;
  };
  places[thread] = 0;
  __syncthreads();
  for (int b = thread; b < batch; b += kThreads) atomicAdd(places + part_of(b), 1);
  __syncthreads();
  // Where each part begins: sums within warps, then over warps.
  const int mine = places[thread];
  int sum = mine;
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const int other = __shfl_up_sync(~0U, sum, offset);
    if (lane >= offset) sum += other;
  }
  if (lane == 31) of_warps[thread / 32] = sum;
  __syncthreads();
  int before = 0;
  for (int warp = 0; warp < thread / 32; ++warp) before += of_warps[warp];
  places[thread] = before + sum - mine;
  __syncthreads();
  for (int b = thread; b < batch; b += kThreads) order[atomicAdd(places + part_of(b), 1)] = b;
}

}  // namespace

void order_rows(StreamRef stream, const CallTensors& call, int steps, int batch, int* order) {
  Launch(dim3(1), dim3(kThreads), 0, stream)
      .start(reinterpret_cast<const void*>(&sort_rows), "the launch of sort_rows", call, steps, batch, order);
}

}  // namespace gru::cuda
