// SPDX-License-Identifier: Apache-2.0
// kernel/fused_step.cuh says who holds what.

#include <array>

#include "backends/cuda/training/kernel/fused_step.cuh"

namespace gru::cuda {
namespace {

template <int kIndex>
struct Forward {
  static constexpr FusedTile shape = kFusedTiles[kIndex];
};
template <int kIndex>
struct Backward {
  static constexpr FusedTile shape = kFusedBackTiles[kIndex];
};

/// What the gates of four units of a row need beside the product.
struct Incoming {
  float4 x_n, x_r, x_z, old;
};

template <class T>
__global__ void __launch_bounds__(kFusedThreads, 1) fused_step(const __grid_constant__ FusedStepArgs a) {
  extern __shared__ __align__(16) float fused_shared[];
  using Block = FusedBlock<T>;
  constexpr int kFinished = Block::kFinished;
  let_next_start();
  const Block block(a);
  const CellArgs& c = a.cells;
  const Stage& s = c.stage;
  const int step = block.step(0), h = s.hidden;
  if (step < 0) {
    wait_for_previous();  // whoever waits for this launch waits for what it waited for
    return;
  }
  const int first = Block::kTile.splits > 1 ? Block::team() * kFinished : 0, unit = block.unit(0);
  const auto place = [&](int f) {
    const int row = block.row(first + f);
    return CellPlace(s, block.layer, block.direction, row < s.batch ? row : s.batch - 1, unit, step);
  };
  const auto input_at = [&](const CellPlace& p) {
    const long long row = static_cast<long long>(p.slot) * s.chunk_steps * s.batch + p.by_place(s);
    return static_cast<const float*>(c.input) + row * 3 * h + unit;
  };
#pragma unroll
  for (int f = 0; f < kFinished; ++f) {
    const float* const input = input_at(place(f));
    for (int g = 0; g < 3; ++g) prefetch_to_l2(input + g * h);
  }
  FusedSums<T> sums;
  fused_products(sums, block, fused_shared, h);

  const auto load = [&](const CellPlace& p) {
    const float* const input = input_at(p);
    return Incoming{load4(input), load4(input + h), load4(input + 2 * h),
                    load4(static_cast<float*>(c.state) + p.in_state(s))};
  };
  constexpr bool kEarly = kFinished <= 2;  // before the teams meet; of more rows, registers are short
  Incoming early[kFinished];
#pragma unroll
  for (int f = 0; kEarly && f < kFinished; ++f) early[f] = load(place(f));
  const float* const biases = static_cast<const float*>(c.bias) + block.cell() * 4 * h + unit;
  float4 bias[4];
#pragma unroll
  for (int g = 0; g < 4; ++g) bias[g] = load4(biases + g * h);
  float4 total[3][kFinished];
#pragma unroll
  for (int g = 0; g < 3; ++g) sums.of_all_teams(total[g], g, reinterpret_cast<float4*>(fused_shared));

  float now[4][kFinished];
#pragma unroll
  for (int f = 0; f < kFinished; ++f) {
    const bool there = block.row(first + f) < s.batch;
    const CellPlace p = place(f);
    const int length = length_of(c.lengths, p.row, s.steps);
    const bool valid = p.time < length;
    Incoming in = kEarly ? early[f] : load(p);
    float4 after, kept_state;
    Kept<float> kept[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      Kept<float>& k = kept[j];
      const float old = part(in.old, j);
      k.r = DeviceMath::sigmoid(part(in.x_r, j) + part(total[0][f], j) + part(bias[0], j));
      k.z = DeviceMath::sigmoid(part(in.x_z, j) + part(total[1][f], j) + part(bias[1], j));
      k.hn = part(total[2][f], j) + part(bias[3], j);
      k.n = DeviceMath::tanh(part(in.x_n, j) + part(bias[2], j) + k.r * k.hn);
      now[j][f] = valid ? k.n + k.z * (old - k.n) : old;
      part(after, j) = now[j][f];
      part(kept_state, j) = valid ? now[j][f] : state_past_end(p.direction, length, old);
    }
    if (!there) continue;
    store4(static_cast<float*>(c.state) + p.in_state(s), after);
    store4(static_cast<float*>(c.states) + state_after(s, p), kept_state);
    if (!valid || c.gates == nullptr) continue;
    float* const gates = reinterpret_cast<float*>(static_cast<Kept<float>*>(c.gates) + kept_at(c, p));
#pragma unroll
    for (int j = 0; j < 4; ++j) store4(gates + 4 * j, make_float4(kept[j].r, kept[j].z, kept[j].n, kept[j].hn));
  }
  float* const next = a.next + (block.cell() * h + unit) * a.pitch + block.row(first);
#pragma unroll
  for (int j = 0; j < 4; ++j) store_column(next + static_cast<long long>(j) * a.pitch, now[j]);
}

/// The gradient of the output of four units, `stride` from one to the next; null: zeros.
struct OutputGradients {
  const float* first = nullptr;
  long long stride = 1;

  __device__ OutputGradients(const CellArgs& a, const CellPlace& p) {
    const Stage& s = a.stage;
    const int feature = p.direction * s.hidden + p.unit;
    if (s.first_layer + p.i + 1 < a.num_layers) {
      first = static_cast<const float*>(a.inner_grad) + inner_grad_at(s, p.i, p.by_time(s), feature);
      return;
    }
    const Operand3& g = a.grad_output;
    stride = g.stride[2];
    if (g.data != nullptr)
      first = static_cast<const float*>(g.data) + p.time * g.stride[0] + p.row * g.stride[1] + feature * stride;
  }
  __device__ float4 load() const {
    if (first == nullptr) return make_float4(0.0F, 0.0F, 0.0F, 0.0F);
    if (stride == 1 && reinterpret_cast<std::uintptr_t>(first) % 16 == 0) return load4(first);
    return make_float4(first[0], first[stride], first[2 * stride], first[3 * stride]);
  }
};

template <class T>
__global__ void __launch_bounds__(kFusedThreads, 1) fused_back(const __grid_constant__ FusedStepArgs a) {
  extern __shared__ __align__(16) float fused_shared[];
  using Block = FusedBlock<T>;
  constexpr int kFinished = Block::kFinished;
  let_next_start();
  const Block block(a);
  const CellArgs& c = a.cells;
  const Stage& s = c.stage;
  const int h = s.hidden;
  const bool multiplies = a.multiplies && block.step(-1) >= 0;
  const int step = a.has_gates ? block.step(0) : -1;
  const int first = Block::kTile.splits > 1 ? Block::team() * kFinished : 0;
  const auto place = [&](int f, int unit) {
    const int row = block.row(first + f);
    return CellPlace(s, block.layer, block.direction, row < s.batch ? row : s.batch - 1, unit,
                     step < 0 ? s.begin(block.layer) : step);
  };
  // What the gates' gradients read has left L2 since the forward wrote it.
#pragma unroll
  for (int i = 0; i < Block::kGroups * kFinished; ++i) {
    if (step < 0) break;
    const CellPlace p = place(i % kFinished, block.unit(i / kFinished));
    prefetch_to_l2(static_cast<const Kept<float>*>(c.gates) + kept_at(c, p));
    prefetch_to_l2(static_cast<const float*>(c.states) + state_before(s, p));
    const OutputGradients output(c, p);
    if (output.first != nullptr) prefetch_to_l2(output.first);
  }
  FusedSums<T> sums;
  if (multiplies) {
    fused_products(sums, block, fused_shared, 3 * h);
  } else {
    wait_for_previous();
    if (step < 0) return;
  }
#pragma unroll
  for (int g = 0; g < Block::kGroups; ++g) {
    const int unit = block.unit(g);
    float4 total[kFinished];
    sums.of_all_teams(total, g, reinterpret_cast<float4*>(fused_shared));
    float gradient[3][4][kFinished];  // r, z, n'
#pragma unroll
    for (int f = 0; f < kFinished; ++f) {
      const bool there = block.row(first + f) < s.batch;
      const CellPlace p = place(f, unit);
      float* const state = static_cast<float*>(c.state) + p.in_state(s);
      float4 dh = load4(state);
      dh = make_float4(dh.x + total[f].x, dh.y + total[f].y, dh.z + total[f].z, dh.w + total[f].w);
      const bool valid = step >= 0 && p.time < length_of(c.lengths, p.row, s.steps);
      float4 of_n = make_float4(0.0F, 0.0F, 0.0F, 0.0F), of_r = of_n, of_z = of_n, of_hn = of_n;
      if (valid) {
        const float4 output = OutputGradients(c, p).load(),
                     old = load4(static_cast<const float*>(c.states) + state_before(s, p));
        const float* const gates =
            reinterpret_cast<const float*>(static_cast<const Kept<float>*>(c.gates) + kept_at(c, p));
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float4 kept = load4(gates + 4 * j);
          float4 before = old, incoming = output;
          const float d = part(dh, j) + part(incoming, j);
          const GateFactors<float> factors(Kept<float>{kept.x, kept.y, kept.z, kept.w}, part(before, j));
          part(of_n, j) = d * factors.n;
          part(of_r, j) = d * factors.r;
          part(of_z, j) = d * factors.z;
          part(of_hn, j) = d * factors.hidden_n;
          part(dh, j) = d * kept.y;
        }
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        gradient[0][j][f] = part(of_r, j);
        gradient[1][j][f] = part(of_z, j);
        gradient[2][j][f] = part(of_hn, j);
      }
      if (!there) continue;
      store4(state, dh);
      if (step < 0) continue;
      float* const all = static_cast<float*>(c.gradients) + gradients_row(c, p) * 4 * h + unit;
      store4(all, of_n);
      store4(all + h, of_r);
      store4(all + 2 * h, of_z);
      store4(all + 3 * h, of_hn);
    }
    if (step < 0) continue;
#pragma unroll
    for (int gate = 0; gate < 3; ++gate) {
      float* const next = a.next + ((block.cell() * 3 + gate) * h + unit) * a.pitch + block.row(first);
#pragma unroll
      for (int j = 0; j < 4; ++j) store_column(next + static_cast<long long>(j) * a.pitch, gradient[gate][j]);
    }
  }
}

__global__ void __launch_bounds__(kTransposed * 8) fused_operand(const __grid_constant__ FusedStepArgs a) {
  __shared__ float tile[kTransposed][kTransposed + 1];
  const Stage& s = a.cells.stage;
  const long long cell = static_cast<long long>(s.first_layer) * s.directions + blockIdx.z;
  const int x = static_cast<int>(threadIdx.x) % kTransposed, y = static_cast<int>(threadIdx.x) / kTransposed;
  const int unit0 = static_cast<int>(blockIdx.x) * kTransposed, row0 = static_cast<int>(blockIdx.y) * kTransposed;
  const auto* const from = static_cast<const float*>(a.cells.state) + cell * s.batch * s.hidden;
  for (int i = y; i < kTransposed; i += 8) {
    const int row = row0 + i;
    tile[i][x] = row < s.batch ? from[static_cast<long long>(row) * s.hidden + unit0 + x] : 0.0F;
  }
  __syncthreads();
  float* const to = a.next + cell * s.hidden * a.pitch;
  for (int i = y; i < kTransposed; i += 8) to[static_cast<long long>(unit0 + i) * a.pitch + row0 + x] = tile[x][i];
}

}  // namespace

const void* fused_step_kernel(int tile) {
  const std::array kernels = {
      reinterpret_cast<const void*>(&fused_step<Forward<0>>), reinterpret_cast<const void*>(&fused_step<Forward<1>>),
      reinterpret_cast<const void*>(&fused_step<Forward<2>>), reinterpret_cast<const void*>(&fused_step<Forward<3>>)};
  static_assert(kernels.size() == kFusedTiles.size(), "a kernel a tile");
  return kernels[static_cast<std::size_t>(tile)];
}
const void* fused_back_kernel(int tile) {
  const std::array kernels = {reinterpret_cast<const void*>(&fused_back<Backward<0>>),
                              reinterpret_cast<const void*>(&fused_back<Backward<1>>),
                              reinterpret_cast<const void*>(&fused_back<Backward<2>>)};
  static_assert(kernels.size() == kFusedBackTiles.size(), "a kernel a tile");
  return kernels[static_cast<std::size_t>(tile)];
}
const void* fused_operand_kernel() { return reinterpret_cast<const void*>(&fused_operand); }

}  // namespace gru::cuda
