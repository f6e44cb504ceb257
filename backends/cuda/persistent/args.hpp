// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "backends/cuda/device/words.hpp"

namespace gru::cuda {

/// What a launch for training keeps, and where it finds the parameters, which are as a training plan has them: H a
/// multiple of 4. first_input is then [D][T][B][3: n, r, z][H], without bias.
struct KeptArgs {
  float4* gates = nullptr;  ///< [L*D][T][B][H] of r, z, n, W_hn h + b_hn; null: not wanted
  float* states =
      nullptr;  ///< [T][B][D*H] of the launch's first layer: the output, but h0 where the reverse begins later
  std::int64_t layer_states = 0;      ///< from one layer's to the next's
  const float* w_hh = nullptr;        ///< [L*D][3: r, z, n][H][H]
  const float* w_ih = nullptr;        ///< wavefront: [3: n, r, z][H][H] of the launch's second layer
  std::int64_t layer_w_ih = 0;        ///< from one layer's to the next's
  const float* bias = nullptr;        ///< [L*D][4: r, z, n of x, n of h][H]
  int first_step = 0, all_steps = 0;  ///< of the sequences, whose lengths and gates count all of them; 0 if reverse
};

/// What one launch of the persistent kernel works on: one layer in all directions, or a wavefront of all layers in one
/// direction. Shapes: T steps, B sequences, L layers, D directions (L or D is 1), H hidden units, Hp = units held by a
/// group (group_blocks x units a block), Kp = the tile's K. Strides count elements.
struct PersistentArgs {
  int steps = 0;           ///< T
  int batch = 0;           ///< B
  int hidden = 0;          ///< H
  int layers = 1;          ///< L
  int directions = 1;      ///< D
  int hidden_padded = 0;   ///< Hp
  int group_blocks = 0;    ///< blocks that hold one matrix together
  int slices = 0;          ///< S, slices of a group
  int gate_sets = 0;       ///< sets of warps that finish slices in turn
  int batch_groups = 0;    ///< groups that share a (layer, direction), each with its part of the batch
  int project_groups = 0;  ///< wavefront: groups that project one layer's inputs in turn

  const float4* recurrent_weights = nullptr;  ///< [L*D][group_blocks][vectors][product threads], packed
  const float4* input_weights = nullptr;      ///< [L-1][group_blocks][vectors][product threads], packed, layers >= 1
  const float* bias_hn = nullptr;             ///< [L*D][Hp]
  const float* bias_x = nullptr;              ///< [L*D][3 gates][Hp]

  const float4* first_input = nullptr;   ///< [T][B][D][3 gates][Hp / 4] of the first layer, complete before the launch
  const float4* second_input = nullptr;  ///< likewise, to be added; null: nothing
  GateInput* gate_input = nullptr;       ///< [L-1][T][B][Hp] of the layers above, epoch-checked
  /// [L-1][T][B][Hp] of the layers below the last, epoch-checked; in 16 bits [L-1][T][B][Hp / 2], two units a word.
  EpochValue* layer_output = nullptr;
  /// [D][T][B][Hp] the output as words, for the launch that projects it for the next layer meanwhile; null: as numbers.
  EpochValue* next_input = nullptr;
  const std::uint32_t* next_count = nullptr;  ///< their epoch - 1
  /// [recurrent groups][2][S][pack][Kp] exchange of the state through L2; in 16 bits [..][Kp / 2], two units a word.
  EpochValue* exchange = nullptr;

  const float* h0 = nullptr;  ///< [L*D][B][H] by strides; null: zeros
  float* h_n = nullptr;       ///< likewise; null: not wanted
  float* output = nullptr;    ///< [T][B][D*H] of the last layer by strides; null: not wanted
  std::int64_t h0_stride[3] = {};
  std::int64_t h_n_stride[3] = {};
  std::int64_t output_stride[3] = {};
  const void* lengths = nullptr;  ///< [B], clamped to 0..T; null: all T
  std::int64_t lengths_stride = 0;
  bool lengths_are_64bit = false;

  /// In device memory, advanced by the last block out, so that a replayed graph never meets its own words.
  std::uint32_t* epoch_base = nullptr;
  std::uint32_t* blocks_done = nullptr;  ///< counts blocks at exit; zero between launches
  std::uint32_t* aborted = nullptr;      ///< host memory; set to 1 when a wait outlasted its limit
  long long spin_limit = 0;              ///< polls

  KeptArgs kept;  ///< of tiles that keep, which read neither packed weights nor `output` and the biases above
};

}  // namespace gru::cuda
