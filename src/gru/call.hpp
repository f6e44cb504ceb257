// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "gru/problem.hpp"
#include "gru/tensor.hpp"
#include "gru/training.hpp"

namespace gru {

/// The tensors of one execution, in the plan's memory and dtype. T, B: this call's, at most the plan's maxima.
///
///     | tensor  | batched                        | unbatched   |
///     | x       | (T, B, I); batch_first (B, T, I)   | (T, I)      |
///     | h0      | (L*D, B, H)                    | (L*D, H)    |  optional: zeros
///     | lengths | (B) int32 or int64, 0..T       | not allowed |  optional: all T
///     | output  | (T, B, D*H); batch_first (B, T, D*H) | (T, D*H) |  optional
///     | h_n     | (L*D, B, H)                    | (L*D, H)    |  optional
///
/// Row l*D + d of h0 and h_n belongs to layer l, direction d. With lengths, output is 0 after each row's end, the reverse
/// direction starts at the row's last valid step and h_n is the state after it: what torch.nn.GRU gives for
/// pack_padded_sequence(enforce_sorted=False); a row of length 0, which torch refuses, has output 0 and h_n = h0. Outputs must not
/// overlap inputs or each other.
///
/// A plan made for training takes a reserve: then the call keeps there what its backward needs, and dropout between layers is
/// applied, with the caller's seed and offset. A call without one keeps nothing and drops nothing, as torch's eval().
struct Call {
  ConstTensorView x;                 ///< inputs
  ConstTensorView h0{};              ///< first states; not given: zeros
  ConstTensorView lengths{};         ///< valid steps of each row; not given: all T
  TensorView output{};               ///< the last layer's states; optional
  TensorView h_n{};                  ///< last states; optional
  Reserve reserve{};                 ///< what backward will need; only for training plans
  std::uint64_t dropout_seed = 0;    ///< philox' key
  std::uint64_t dropout_offset = 0;  ///< the upper half of Philox' counter
};

/// Checks a call against the plan's problem and returns it as backends see it: x (T, B, I), output (T, B, D*H), h0 and
/// h_n (L*D, B, H), all of rank 3 with strides that express batch_first and missing batch dimensions.
/// Throws gru::Error naming the tensor, what was expected and what came. Looks at no element.
Call canonical(const Call& call, const Problem& problem);

/// Throws gru::Error if a length of a canonical call lies outside 0..T. `call.lengths` must be readable from the host.
void check_host_lengths(const Call& call);
/// The same for lengths (B) of a sequence of `steps`, in the words of the entry `where`.
void check_host_lengths(const ConstTensorView& lengths, std::int64_t steps, std::string_view where);

}  // namespace gru
