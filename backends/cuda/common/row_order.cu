// SPDX-License-Identifier: Apache-2.0
// A counting sort of rows by length in one block: how many rows each part of the lengths has, where each part begins, and the
// rows into their parts. 2 B reads of lengths and B writes; bound by latency up to some ten thousand rows.

#include <cuda_runtime.h>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/row_order.hpp"
#include "backends/cuda/device/lengths.cuh"
#include "backends/cuda/device/live_rows.cuh"

namespace gru::cuda {
namespace {

constexpr int kThreads = kLengthParts;  // a thread a part
static_assert(kRowOrderEnds == kLengthParts, "an end a part");

/// The sum of the values of all threads up to this one: within warps, then over warps.
__device__ int sum_up_to(int value, int* of_warps) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  int sum = value;
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const int other = __shfl_up_sync(~0U, sum, offset);
    if (lane >= offset) sum += other;
  }
  if (lane == 31) of_warps[thread / 32] = sum;
  __syncthreads();
  for (int warp = 0; warp < thread / 32; ++warp) sum += of_warps[warp];
  __syncthreads();
  return sum;
}

__global__ void __launch_bounds__(kThreads)
    sort_rows(const __grid_constant__ CallTensors c, int steps, int batch, int* order, int* ends, int* firsts) {
  __shared__ int places[kLengthParts], part_ends[kLengthParts], of_warps[kThreads / 32], last;
  const int thread = static_cast<int>(threadIdx.x);
  const int width = length_part_width(steps);
  const auto part_of = [&](int b) {
    return kLengthParts - 1 - valid_steps(c.lengths, c.lengths_stride, c.lengths_are_64bit, b, steps) / width;
  };
  places[thread] = 0;
  __syncthreads();
  for (int b = thread; b < batch; b += kThreads) atomicAdd(places + part_of(b), 1);
  __syncthreads();
  const int mine = places[thread], end = sum_up_to(mine, of_warps);
  places[thread] = end - mine;
  part_ends[thread] = end;
  if (ends != nullptr) ends[thread] = end;
  __syncthreads();
  if (firsts != nullptr) {
    if (thread == 0) firsts[0] = 0;
    int before = 0;
    for (int t0 = 0; t0 < steps; t0 += kThreads) {
      const int t = t0 + thread;
      const int sum = before + sum_up_to(t < steps ? (live_rows(part_ends, steps, t) + 3) / 4 * 4 : 0, of_warps);
      if (t < steps) firsts[t + 1] = sum;
      if (thread == kThreads - 1) last = sum;
      __syncthreads();
      before = last;
    }
  }
  for (int b = thread; b < batch; b += kThreads) order[atomicAdd(places + part_of(b), 1)] = b;
}

constexpr int kEndWarps = 4;

/// A warp: a time of a row. Bound by the zeros that it writes.
__global__ void __launch_bounds__(32 * kEndWarps)
    end_rows(const __grid_constant__ RowEnds e, const __grid_constant__ CallTensors inline_call) {
  const CallTensors& c = e.call != nullptr ? *e.call : inline_call;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kEndWarps + static_cast<int>(threadIdx.x) / 32;
  if (c.lengths == nullptr || index >= static_cast<std::int64_t>(e.steps) * e.batch) return;
  const int t = static_cast<int>(index / e.batch), b = static_cast<int>(index % e.batch);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int length = valid_steps(c.lengths, c.lengths_stride, c.lengths_are_64bit, b, e.steps);
  if (t < length) return;
  if (c.output.data != nullptr) {
    float* const row = static_cast<float*>(c.output.data) + t * c.output.stride_t + b * c.output.stride_b;
    for (int k = lane; k < e.width; k += 32) row[k * c.output.stride_k] = 0.0F;
  }
  if (length > 0 || t > 0 || c.h_n.data == nullptr) return;
  for (int cell = 0; cell < e.cells; ++cell) {
    float* const to = static_cast<float*>(c.h_n.data) + cell * c.h_n.stride_t + b * c.h_n.stride_b;
    const float* const from = c.h0.data == nullptr
                                  ? nullptr
                                  : static_cast<const float*>(c.h0.data) + cell * c.h0.stride_t + b * c.h0.stride_b;
    for (int k = lane; k < e.hidden; k += 32) {
      to[k * c.h_n.stride_k] = from == nullptr ? 0.0F : from[k * c.h0.stride_k];
    }
  }
}

}  // namespace

void order_rows(StreamRef stream, const CallTensors& call, int steps, int batch, int* order, int* ends, int* firsts) {
  Launch(dim3(1), dim3(kThreads), 0, stream)
      .start(row_order_kernel(), "the launch of sort_rows", call, steps, batch, order, ends, firsts);
}

void write_row_ends(StreamRef stream, const RowEnds& ends, const CallTensors& inline_call) {
  Launch(dim3(blocks(static_cast<std::int64_t>(ends.steps) * ends.batch, kEndWarps)), dim3(32 * kEndWarps), 0, stream)
      .start(row_ends_kernel(), "the launch of end_rows", ends, inline_call);
}

const void* row_order_kernel() { return reinterpret_cast<const void*>(&sort_rows); }

const void* row_ends_kernel() { return reinterpret_cast<const void*>(&end_rows); }

}  // namespace gru::cuda
