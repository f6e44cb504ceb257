// SPDX-License-Identifier: Apache-2.0
// A dense projection by a tile of ours: where no library is built in, or none takes how the rows of x lie.

#include "backends/cuda/device/cp_async.cuh"
#include "backends/cuda/projection/args.hpp"
#include "backends/cuda/projection/kernels.hpp"

namespace gru::cuda {
namespace {

/// shares[row, d][gate][unit] = x[row] . W[d][gate of the unit] + bias: 128 rows x 32 units a block, 8 x 4 a thread.
/// Vectors: the rows of x lie at multiples of 16 bytes, are contiguous and a multiple of 4 long; else element by
/// element.
template <bool Vectors>
__global__ void __launch_bounds__(kProjectThreads, 3) project_kernel(const __grid_constant__ ProjectionArgs a) {
  constexpr int N = 3 * kProjectUnits, vectors = kProjectDepth * N / 4;  // 192: one and a half a thread
  __shared__ __align__(16) float xs[2][kProjectDepth][kProjectRows + 4];
  __shared__ __align__(16) float ws[2][kProjectDepth][N];
  const int tid = threadIdx.x, tm = tid / 8, tn = tid % 8;
  const long long rows = static_cast<long long>(a.steps) * a.batch;
  const long long row0 = static_cast<long long>(blockIdx.x) * kProjectRows;
  const int unit0 = blockIdx.y * kProjectUnits, d = blockIdx.z;
  const int pitch = a.hidden_padded * 3;
  const int valid_units = min(kProjectUnits, a.hidden_padded - unit0);
  // Two neighbouring threads read 32 contiguous bytes of a row; a thread serves rows tid/2 and 64 + tid/2.
  const int x_row = tid / 2, x_column = tid % 2 * 4;
  const float* x[2];
  int left[2];  // elements of the row from this thread's next column on
#pragma unroll
  for (int q = 0; q < 2; ++q) {
    const long long row = row0 + x_row + 64 * q;
    left[q] = row < rows ? a.inputs - x_column : 0;
    x[q] = a.x + (row < rows ? row / a.batch * a.x_stride[0] + row % a.batch * a.x_stride[1] : 0) +
           x_column * a.x_stride[2];
  }
  float4 staged[2];
  auto load_x = [&] {
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      float v[4] = {0.f, 0.f, 0.f, 0.f};
      if constexpr (Vectors) {
        if (left[q] > 0) *reinterpret_cast<float4*>(v) = *reinterpret_cast<const float4*>(x[q]);
        x[q] += kProjectDepth;
      } else {
#pragma unroll
        for (int c = 0; c < 4; ++c)
          if (c < left[q]) v[c] = x[q][c * a.x_stride[2]];
        x[q] += kProjectDepth * a.x_stride[2];
      }
      left[q] -= kProjectDepth;
      staged[q] = *reinterpret_cast<const float4*>(v);
    }
  };
  auto store_x = [&](int buffer) {
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      xs[buffer][x_column + 0][x_row + 64 * q] = staged[q].x;
      xs[buffer][x_column + 1][x_row + 64 * q] = staged[q].y;
      xs[buffer][x_column + 2][x_row + 64 * q] = staged[q].z;
      xs[buffer][x_column + 3][x_row + 64 * q] = staged[q].w;
    }
  };
  // A thread copies 16 bytes of the weights, the first half of the threads 16 bytes more, 16 / 3 rows further down.
  const float* w[2];
  int w_to[2];
  bool w_valid[2];
#pragma unroll
  for (int q = 0; q < 2; ++q) {
    const int i = tid + q * kProjectThreads, k = i / (N / 4), n = i % (N / 4) * 4;
    w_valid[q] = i < vectors && n < 3 * valid_units;
    w_to[q] = k * N + n;
    w[q] = a.weights + (static_cast<long long>(d) * a.inputs_padded + (w_valid[q] ? k : 0)) * pitch + unit0 * 3 + n;
  }
  auto load_w = [&](int buffer) {
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      if (w_valid[q]) copy_async16(&ws[buffer][0][0] + w_to[q], w[q]);
      w[q] += kProjectDepth * pitch;
    }
    copy_async_commit();
  };

  float acc[8][12] = {};
  load_x();
  load_w(0);
  store_x(0);
  copy_async_wait<0>();
  __syncthreads();
  for (int k0 = 0, buffer = 0; k0 < a.inputs_padded; k0 += kProjectDepth, buffer ^= 1) {
    const bool more = k0 + kProjectDepth < a.inputs_padded;
    if (more) {
      load_w(buffer ^ 1);
      load_x();
    }
#pragma unroll
    for (int k = 0; k < kProjectDepth; ++k) {
      float m[8], n[12];
      *reinterpret_cast<float4*>(m) = *reinterpret_cast<const float4*>(&xs[buffer][k][tm * 4]);
      *reinterpret_cast<float4*>(m + 4) = *reinterpret_cast<const float4*>(&xs[buffer][k][64 + tm * 4]);
#pragma unroll
      for (int q = 0; q < 3; ++q)
        *reinterpret_cast<float4*>(n + 4 * q) = *reinterpret_cast<const float4*>(&ws[buffer][k][tn * 12 + 4 * q]);
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 12; ++j) acc[i][j] = fmaf(m[i], n[j], acc[i][j]);
    }
    if (more) {
      store_x(buffer ^ 1);
      copy_async_wait<0>();
    }
    __syncthreads();
  }
  if (tn * 4 >= valid_units) return;  // both are multiples of 4
#pragma unroll
  for (int g = 0; g < 3; ++g) {
    const int column = g * a.hidden_padded + unit0 + tn * 4;
    const float4 bias = *reinterpret_cast<const float4*>(a.bias + d * pitch + column);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const long long r = row0 + (i < 4 ? tm * 4 + i : 64 + tm * 4 + i - 4);
      if (r < rows)
        *reinterpret_cast<float4*>(a.shares + r * a.row_stride + d * a.direction_stride + column) =
            make_float4(acc[i][g] + bias.x, acc[i][3 + g] + bias.y, acc[i][6 + g] + bias.z, acc[i][9 + g] + bias.w);
    }
  }
}

}  // namespace

const void* projection_kernel(bool vectors) {
  return vectors ? reinterpret_cast<const void*>(&project_kernel<true>)
                 : reinterpret_cast<const void*>(&project_kernel<false>);
}

}  // namespace gru::cuda
