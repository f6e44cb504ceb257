// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "gru/tensor.hpp"

namespace gru {

struct CellWeights;
struct Problem;

/// What a forward keeps for its backward, for each unit and step.
enum class Training : std::uint8_t {
  none,          ///< nothing: the plan has no backward (the default)
  keep_gates,    ///< r, z, n, W_hn h + b_hn and the layer's output
  remake_gates,  ///< the outputs of inner layers; the gates are made again from the outputs
};

/// "none", "keep", "remake".
std::string_view name_of(Training training);
/// The inverse; throws gru::Error that lists the names.
Training parse_training(std::string_view name);

/// What a forward keeps for its backward: memory of the caller where the plan computes, Plan::reserve_bytes() bytes or
/// more, aligned to kReserveAlignment. It belongs to the call, so several forwards may wait for their backward. Its content
/// is the backend's own: only the plan that wrote it, or a fork, can read it.
struct Reserve {
  void* data = nullptr;   ///< in the plan's memory
  std::size_t bytes = 0;  ///< at least reserve_bytes()

  bool given() const { return data != nullptr; }  ///< whether there is one
};
inline constexpr std::size_t kReserveAlignment = 16;

/// Gradients of one layer in one direction, as torch.nn.GRU's parameters lie; each may be missing (rank 0).
struct CellGradients {
  TensorView weight_ih{};  ///< (3H, I of the layer)
  TensorView weight_hh{};  ///< (3H, H)
  TensorView bias_ih{};    ///< (3H)
  TensorView bias_hh{};    ///< (3H)
};

/// The tensors of one backward, in the plan's memory and dtype; shapes as in gru::Call. T and B: those of its forward, as are
/// x, h0, lengths, reserve, dropout_seed and dropout_offset.
///
///     | tensor      | shape as  |                                                                    |
///     | output      | output    | what the forward wrote; needed by Training::remake_gates alone     |
///     | grad_output | output    | optional: zeros. What stands in the padding reaches nothing        |
///     | grad_h_n    | h_n       | optional: zeros                                                    |
///     | grad_x      | x         | optional. 0 in the padding                                         |
///     | grad_h0     | h0        | optional, also where h0 is not given                               |
///     | cells       | weights   | optional: empty, or [layer * D + direction]; each tensor optional  |
struct BackwardCall {
  ConstTensorView x;                       ///< as in the forward
  ConstTensorView h0{};                    ///< as in the forward
  ConstTensorView lengths{};               ///< as in the forward
  ConstTensorView output{};                ///< what the forward gave; needed to make gates again
  Reserve reserve{};                       ///< what the forward kept
  ConstTensorView grad_output{};           ///< shaped as output; optional
  ConstTensorView grad_h_n{};              ///< shaped as h_n; optional
  TensorView grad_x{};                     ///< shaped as x; optional
  TensorView grad_h0{};                    ///< shaped as h0; optional
  std::span<const CellGradients> cells{};  ///< [layer * D + direction], or empty
  bool accumulate = false;                 ///< gradients are added to what the tensors hold, instead of overwriting it
  std::uint64_t dropout_seed = 0;          ///< the forward's
  std::uint64_t dropout_offset = 0;        ///< the forward's
};

/// Checks a backward against the plan's problem and returns it as backends see it: x and grad_x (T, B, I), output and
/// grad_output (T, B, D*H), h0, grad_h0 and grad_h_n (L*D, B, H), all of rank 3 with strides that express batch_first and
/// missing batch dimensions. Throws gru::Error naming the tensor, what was expected and what came. Looks at no element.
BackwardCall canonical(const BackwardCall& call, const Problem& problem);

/// Checks what Plan::set_weights takes: cells[layer * D + direction] with every parameter of the plan's config, in its
/// dtype, any strides. Throws gru::Error naming the parameter.
void check_weights(std::span<const CellWeights> cells, const Problem& problem);

}  // namespace gru
