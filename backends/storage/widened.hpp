// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "backends/storage/convert.hpp"
#include "gru/backend.hpp"
#include "gru/error.hpp"
#include "gru/space.hpp"
#include "src/format.hpp"

namespace gru::storage {

/// A backend that reads and writes tensors of 16 bits itself: it is asked with the dtype as it is.
template <class B>
concept Takes16Bits = requires {
  requires B::takes_16_bits;
};

/// A backend that packs new weights of 16 bits itself.
template <class B>
concept Packs16Bits = requires(B& b, std::span<const CellWeights> cells) {
  requires B::packs_16_bits;
  b.set_weights(cells);
};

/// The problem that is computed: with float32 in the place of 16 bits.
inline Problem in_float32_if_16_bits(Problem problem) {
  if (has_16_bits(problem.options.dtype)) problem.options.dtype = DType::float32;
  return problem;
}

/// The float32 tensors of a plan, one behind the other.
struct WidenedLayout {
  std::size_t x = 0, h0 = 0, output = 0, h_n = 0;  ///< bytes before each
  std::size_t end = 0;                             ///< bytes in all
};
WidenedLayout widened_layout(const Problem& problem);

/// "float16 is widened to float32 and results rounded back, in 12.3 MB of workspace", and B's own remark.
std::string widened_remark(const Problem& problem, std::string_view own);

/// B for tensors of 16 bits: README.md.
template <Backend B>
class Widened {
 public:
  using Space = typename B::Space;
  static constexpr std::string_view name = B::name;

  using Answer = decltype(B::decide(std::declval<const Problem&>()));
  static Answer decide(const Problem& problem) {
    Answer answer = ask<B>(in_float32_if_16_bits(problem));
    if (answer) answer.reason = widened_remark(problem, answer.reason);
    return answer;
  }

  Widened(const Space& space, const Problem& problem, Answer answer, const Weights& weights)
      : Widened(space, problem, B(space, in_float32_if_16_bits(problem), std::move(answer), weights)) {}

  void execute(const Call& call) {
    require_reachable(space_, call);
    if constexpr (requires { backend_.require_no_abort(); }) backend_.require_no_abort();
    const DType half = problem_.options.dtype;
    Call own = call;
    own.x = at<ConstTensorView>(layout_.x, call.x);
    own.h0 = at<ConstTensorView>(layout_.h0, call.h0);
    own.output = at<TensorView>(layout_.output, call.output);
    own.h_n = at<TensorView>(layout_.h_n, call.h_n);
    Conversions in;
    in.add(call.x, at<TensorView>(layout_.x, call.x));
    in.add(call.h0, at<TensorView>(layout_.h0, call.h0));
    convert(space_, widen_label_, in, half, Way::widen);
    backend_.execute(own);
    Conversions out;
    out.add(own.output, call.output);
    out.add(own.h_n, call.h_n);
    convert(space_, narrow_label_, out, half, Way::narrow);
  }
  void set_weights(std::span<const CellWeights> cells) requires Packs16Bits<B> { backend_.set_weights(cells); }
  Widened fork(const Space& space) const { return Widened(space, problem_, backend_.fork(space)); }
  void rebind(const Space& space) requires requires(B& b) { b.rebind(space); }
  {
    backend_.rebind(space);
    space_ = space;
  }
  std::size_t workspace_bytes() const { return backend_.workspace_bytes() + layout_.end; }
  Status status() const { return backend_.status(); }

 private:
  Widened(const Space& space, const Problem& problem, B backend)
      : space_(space),
        problem_(problem),
        backend_(std::move(backend)),
        layout_(widened_layout(problem)),
        memory_(SpaceTraits<Space>::allocate(space, label("widened"), std::max<std::size_t>(layout_.end, 1))) {}

  static std::string label(const std::string& phase) {
    return "gru::" + std::string(std::string_view(B::name)) + "::" + phase;
  }

  /// A float32 tensor, row-major, of the extents of `of`; none if that is not given.
  template <class View>
  View at(std::size_t offset, const ConstTensorView& of) const {
    if (!of.given()) return {};
    return {static_cast<std::byte*>(memory_.get()) + offset, DType::float32, of.rank, of.extents,
            contiguous_strides(of.rank, of.extents)};
  }

  Space space_;
  Problem problem_;
  B backend_;
  WidenedLayout layout_;
  std::shared_ptr<void> memory_;
  std::string widen_label_ = label("widen");
  std::string narrow_label_ = label("narrow");
};

}  // namespace gru::storage
