// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/device/cluster.cuh"
#include "backends/cuda/device/mbarrier.cuh"
#include "backends/cuda/device/shared_address.cuh"
#include "backends/cuda/device/words.cuh"
#include "bench/peers/device_clock.hpp"
#include "bench/peers/exchange_floor.hpp"

namespace gru::bench {
namespace {

using namespace gru::cuda;

constexpr int kThreads = 256;
constexpr int kMostValues = 4096;  // two states in the 32 KB of static shared memory below

/// Each value becomes its neighbour's of the step before plus one, so that no block can run ahead of what it is sent.
__global__ void __launch_bounds__(kThreads) exchange_in_l2(EpochValue* words, int values, int steps, unsigned epoch) {
  __shared__ float state[kMostValues];
  const int share = values / static_cast<int>(gridDim.x), first = static_cast<int>(blockIdx.x) * share;
  for (int i = threadIdx.x; i < values; i += kThreads) state[i] = 0.f;
  __syncthreads();
  for (int step = 0; step < steps; ++step, ++epoch) {
    EpochValue* now = words + step % 2 * values;
    for (int i = first + threadIdx.x; i < first + share; i += kThreads)
      store_value(now + i, state[(i + 1) % values] + 1.f, epoch);
    __syncthreads();
    for (int i = 2 * threadIdx.x; i < values; i += 2 * kThreads) {
      uint4 pair;
      do {
        pair = load_pair(now + i);
      } while (pair.y != epoch || pair.w != epoch);
      state[i] = __uint_as_float(pair.x);
      state[i + 1] = __uint_as_float(pair.z);
    }
    __syncthreads();
  }
}

__global__ void __launch_bounds__(kThreads) exchange_in_cluster(int values, int steps) {
  if constexpr (kHasClusters) {
    __shared__ __align__(16) float state[2][kMostValues];
    __shared__ __align__(8) unsigned long long arrived[2];
    const int blocks = static_cast<int>(gridDim.x), share = values / blocks,
              first = static_cast<int>(blockIdx.x) * share;
    for (int i = threadIdx.x; i < 2 * values; i += kThreads) state[i / values][i % values] = 0.f;
    if (threadIdx.x == 0) {
      for (unsigned long long& bar : arrived) mbarrier_init(shared_address(&bar), 1);
      mbarrier_publish();
    }
    __syncthreads();
    cluster_sync();
    for (int step = 0; step < steps; ++step) {
      const int now = step % 2;
      const unsigned bar = shared_address(&arrived[now]);
      if (threadIdx.x == 0) mbarrier_expect(bar, static_cast<unsigned>(4 * values));
      for (int i = threadIdx.x; i < share / 4 * blocks; i += kThreads) {
        const int peer = i % blocks, at = first + i / blocks * 4;
        float4 v = *reinterpret_cast<const float4*>(&state[1 - now][at]);
        v.x += 1.f;
        store_async4(map_rank(shared_address(&state[now][at]), peer), v, map_rank(bar, peer));
      }
      while (!mbarrier_try(bar, static_cast<unsigned>(step / 2) & 1U)) {
      }
      __syncthreads();  // nobody overwrites the older state while others still send from it
    }
    cluster_sync();
  }
}

}  // namespace

bool ExchangeFloor::has_clusters(int blocks) {
  int device = 0, major = 0;
  require_cuda(cudaGetDevice(&device), "cudaGetDevice");
  require_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  cudaFuncAttributes attributes{};
  require_cuda(cudaFuncGetAttributes(&attributes, exchange_in_cluster), "cudaFuncGetAttributes");
  return major == 9 && attributes.ptxVersion >= 90 && blocks <= 16;
}

ExchangeFloor::ExchangeFloor(int values, int blocks, int steps, bool cluster, cudaStream_t stream)
    : values_(values), blocks_(blocks), steps_(steps), cluster_(cluster), stream_(stream) {
  void* memory = nullptr;
  const std::size_t bytes = 2 * static_cast<std::size_t>(values) * sizeof(EpochValue);
  require_cuda(cudaMalloc(&memory, bytes), "cudaMalloc");
  words_.reset(memory, [](void* p) { static_cast<void>(cudaFree(p)); });
  require_cuda(cudaMemset(memory, 0, bytes), "cudaMemset");
  require_cuda(cudaFuncSetAttribute(exchange_in_cluster, cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
               "cudaFuncSetAttribute");
}

void ExchangeFloor::run() {
  cudaLaunchAttribute attribute{};
  if (cluster_) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {static_cast<unsigned>(blocks_), 1, 1};
  } else {
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 1;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks_));
  config.blockDim = dim3(kThreads);
  config.stream = stream_;
  config.attrs = &attribute;
  config.numAttrs = 1;
  if (cluster_) {
    require_cuda(cudaLaunchKernelEx(&config, exchange_in_cluster, values_, steps_), "cudaLaunchKernelEx");
    return;
  }
  require_cuda(
      cudaLaunchKernelEx(&config, exchange_in_l2, static_cast<EpochValue*>(words_.get()), values_, steps_, epoch_ + 1),
      "cudaLaunchKernelEx");
  epoch_ += static_cast<unsigned>(steps_);
}

}  // namespace gru::bench
