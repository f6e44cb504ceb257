// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a block of the recurrence finds and loads once, before its first step.

#include "backends/cuda/training/kernel/recurrence.cuh"

namespace gru::cuda {

template <class Tile>
__device__ __forceinline__ void RecurrenceBlock<Tile>::find_addresses() {
  const CellArgs& c = a_.cells;
  const int h = s_.hidden, width = s_.directions * h, row = ahead_ * s_.batch;
  const CellPlace own = first_place(first_sequence_ + own_sequence_, own_unit_);
  if constexpr (!Tile::backwards) {
    const long long at = static_cast<long long>(own.slot) * s_.chunk_steps * s_.batch + own.by_place(s_);
    input_ = {static_cast<const float*>(c.input) + at * 3 * h + own_unit_, row * 3 * h, Tile::pack * 3 * h};
    results_ = {static_cast<float*>(c.states) + state_after(s_, own), row * width, Tile::pack * width};
    kept_ = {static_cast<Kept<float>*>(c.gates) + (c.gates == nullptr ? 0 : kept_at(c, own)), row * h, Tile::pack * h};
    const float* bias = static_cast<const float*>(c.bias) + static_cast<long long>(cell_) * 4 * h + own_unit_;
#pragma unroll
    for (int g = 0; g < 4; ++g) bias_[g] = own_unit_ < h ? bias[g * h] : 0.F;
  } else {
    results_ = {static_cast<float*>(c.gradients) +
                    (static_cast<long long>(own.slot) * s_.steps * s_.batch + own.by_time(s_)) * 4 * h + own_unit_,
                row * 4 * h, Tile::pack * 4 * h};
    const CellPlace pair = first_place(first_sequence_ + thread_ / (Tile::k / 2), pair_unit());
    kept_ = {static_cast<Kept<float>*>(c.gates) + kept_at(c, pair), row * h, Tile::pack * h};
    before_ = {static_cast<const float*>(c.states) + state_before(s_, pair), row * width, Tile::pack * width};
    find_output_gradient(own);
  }
}

template <class Tile>
__device__ __forceinline__ void RecurrenceBlock<Tile>::find_output_gradient(const CellPlace& own) {
  const CellArgs& c = a_.cells;
  const int layer = s_.first_layer + i_, feature = direction_ * s_.hidden + own_unit_;
  if (layer + 1 == c.num_layers) {
    const Operand3& g = c.grad_output;
    output_gradient_ = {static_cast<const float*>(g.data), ahead_ * g.stride[0], Tile::pack * g.stride[1]};
    if (g.data != nullptr)
      output_gradient_.first += own.time * g.stride[0] + own.row * g.stride[1] + feature * g.stride[2];
  } else {
    const long long width = s_.directions * s_.hidden;
    const long long at = s_.wavefront
                             ? (static_cast<long long>(layer) * s_.chunk_steps + own.local) * s_.batch + own.row
                             : own.by_time(s_);
    output_gradient_ = {static_cast<const float*>(c.inner_grad) + at * width + feature, ahead_ * s_.batch * width,
                        Tile::pack * width};
  }
}

template <class Tile>
__device__ __forceinline__ void RecurrenceBlock<Tile>::load_weights() {
  const float* from = static_cast<const float*>(Tile::backwards ? a_.cells.w_hh_transposed : a_.cells.w_hh) +
                      static_cast<long long>(cell_) * 3 * s_.hidden * s_.hidden;
  const bool vectors = s_.hidden % 4 == 0;
#pragma unroll
  for (int g = 0; g < 3; ++g)
#pragma unroll
    for (int u = 0; u < Tile::warp_units; ++u) {
      const int unit = rank_ * Tile::units + thread_ / 32 * Tile::warp_units + u;
      const float* row = from + (static_cast<long long>(g) * s_.hidden + unit) * s_.hidden;
#pragma unroll
      for (int i = 0; i < Tile::columns / 4; ++i) {
        const int column = 128 * i + 4 * lane_;
        float4 v = make_float4(0.F, 0.F, 0.F, 0.F);
        if (unit < s_.hidden && column < s_.hidden) {
          if (vectors) {
            v = __ldg(reinterpret_cast<const float4*>(row + column));
          } else {
            v.x = __ldg(row + column);
            if (column + 1 < s_.hidden) v.y = __ldg(row + column + 1);
            if (column + 2 < s_.hidden) v.z = __ldg(row + column + 2);
            if (column + 3 < s_.hidden) v.w = __ldg(row + column + 3);
          }
        }
        weights_[g][u][4 * i] = v.x;
        weights_[g][u][4 * i + 1] = v.y;
        weights_[g][u][4 * i + 2] = v.z;
        weights_[g][u][4 * i + 3] = v.w;
      }
    }
}

}  // namespace gru::cuda
