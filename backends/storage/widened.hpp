// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/storage/convert.hpp"
#include "gru/backend.hpp"
#include "gru/detail/space.hpp"
#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru::storage {

/// A backend that reads and writes tensors of 16 bits itself: it is asked with the dtype as it is.
template <class B>
concept Takes16Bits = requires {
  requires B::takes_16_bits;
};

/// A backend whose backward finds all states in the reserve: it needs no output to make gates again.
template <class B>
concept ReservesOutputs = requires {
  requires B::reserves_outputs;
};

/// A backend that packs new weights of 16 bits itself, for inference.
template <class B>
concept Packs16Bits = requires(B& b, std::span<const CellWeights> cells) {
  requires B::packs_16_bits;
  b.set_weights(cells);
};

/// A backend that in inference widens x and h0 as it reads them and rounds results as it stores them: only what it trains with
/// and new weights are widened for it.
template <class B>
concept Streams16Bits = requires {
  requires B::streams_16_bits;
};

/// The problem that is computed: with float32 in the place of 16 bits.
inline Problem in_float32_if_16_bits(Problem problem) {
  if (has_16_bits(problem.options.dtype)) problem.options.dtype = DType::float32;
  return problem;
}

/// What a plan needs in float32 beside x, h0, output and h_n.
struct WidenedUse {
  bool tensors = true;     ///< x, h0, output and h_n
  bool gradients = false;  ///< it trains
  bool outputs = false;    ///< its backward reads the output
  bool weights = false;    ///< new weights are widened, too
};

/// The float32 tensors of a plan, one behind the other. Forward and backward use them in turn: the gradient of the
/// output takes the output's place where backward does not read that, and that of h_n always takes h_n's.
struct WidenedLayout {
  std::size_t x = 0, h0 = 0, output = 0, h_n = 0;        ///< bytes before each
  std::size_t grad_output = 0, grad_x = 0, grad_h0 = 0;  ///< likewise
  std::size_t cells = 0;                                 ///< before all parameters, or their gradients
  std::size_t end = 0;                                   ///< bytes in all
};
WidenedLayout widened_layout(const Problem& problem, const WidenedUse& use);

/// The parameters of all cells in float32, row-major, one behind the other from `begin` on; null: only for the size.
/// Each begins at a multiple of 256 bytes. Returns what lies behind the last one.
std::size_t place_cells(const Config& config, std::byte* begin, std::vector<CellGradients>* cells);

/// The launches of one way, each of as many tensors as fit.
template <class Space>
class ConversionList {
 public:
  ConversionList(const Space& space, const std::string& label, DType half, Way way)
      : space_(space), label_(label), half_(half), way_(way) {}
  void add(const ConstTensorView& from, const TensorView& to) {
    if (waiting_.full()) launch();
    waiting_.add(from, to);
  }
  /// What was added since.
  void launch() {
    convert(space_, label_, waiting_, half_, way_);
    waiting_.count = 0;
  }

 private:
  const Space& space_;
  const std::string& label_;
  DType half_;
  Way way_;
  Conversions waiting_;
};

/// "float16 is widened to float32 and results rounded back, in 12.3 MB of workspace", and B's own remark.
std::string widened_remark(const Problem& problem, const WidenedUse& use, std::size_t bytes, std::string_view own);

/// B for tensors of 16 bits: README.md.
template <Backend B>
class Widened {
 public:
  using Space = typename B::Space;
  static constexpr std::string_view name = B::name;

  using Answer = decltype(B::decide(std::declval<const Problem&>()));
  static Answer decide(const Problem& problem) {
    const WidenedUse use = use_of(problem);
    Answer answer = ask<B>(as_computed(problem));
    if (answer) answer.reason = widened_remark(problem, use, widened_layout(problem, use).end, answer.reason);
    return answer;
  }

  Widened(const Space& space, const Problem& problem, Answer answer, const Weights& weights)
      : Widened(space, problem, B(space, as_computed(problem), std::move(answer), weights)) {}

  void execute(const Call& call) {
    require_reachable(space_, call);
    if (!use_.tensors) return backend_.execute(call);
    if constexpr (requires { backend_.require_no_abort(); }) backend_.require_no_abort();
    const DType half = problem_.options.dtype;
    Call own = call;
    own.x = at<ConstTensorView>(layout_.x, call.x);
    own.h0 = at<ConstTensorView>(layout_.h0, call.h0);
    own.output = at<TensorView>(layout_.output, call.output);
    own.h_n = at<TensorView>(layout_.h_n, call.h_n);
    ConversionList<Space> in(space_, widen_label_, half, Way::widen);
    in.add(call.x, at<TensorView>(layout_.x, call.x));
    in.add(call.h0, at<TensorView>(layout_.h0, call.h0));
    in.launch();
    backend_.execute(own);
    ConversionList<Space> out(space_, narrow_label_, half, Way::narrow);
    out.add(own.output, call.output);
    out.add(own.h_n, call.h_n);
    out.launch();
  }

  std::size_t reserve_bytes() const requires TrainingBackend<B> { return backend_.reserve_bytes(); }

  void backward(const BackwardCall& call) requires TrainingBackend<B> {
    require_reachable(space_, call);
    if constexpr (requires { backend_.require_no_abort(); }) backend_.require_no_abort();
    BackwardCall own = call;
    own.accumulate = false;  // what is added to has 16 bits
    ConversionList<Space> in(space_, widen_label_, problem_.options.dtype, Way::widen);
    const auto widened = [&](std::size_t offset, const ConstTensorView& from) {
      in.add(from, at<TensorView>(offset, from));
      return at<ConstTensorView>(offset, from);
    };
    own.x = widened(layout_.x, call.x);
    own.h0 = widened(layout_.h0, call.h0);
    own.output = use_.outputs ? widened(layout_.output, call.output) : ConstTensorView{};
    own.grad_output = widened(layout_.grad_output, call.grad_output);
    own.grad_h_n = widened(layout_.h_n, call.grad_h_n);
    in.launch();
    own.grad_x = at<TensorView>(layout_.grad_x, call.grad_x);
    own.grad_h0 = at<TensorView>(layout_.grad_h0, call.grad_h0);
    for (std::size_t i = 0; i < call.cells.size(); ++i) {
      const auto asked = [](const TensorView& of, const TensorView& here) { return of.given() ? here : TensorView{}; };
      const CellGradients &theirs = call.cells[i], &here = cells_[i];
      asked_[i] = {asked(theirs.weight_ih, here.weight_ih), asked(theirs.weight_hh, here.weight_hh),
                   asked(theirs.bias_ih, here.bias_ih), asked(theirs.bias_hh, here.bias_hh)};
    }
    own.cells = std::span<const CellGradients>(asked_).first(call.cells.size());
    backend_.backward(own);
    ConversionList<Space> out(space_, narrow_label_, problem_.options.dtype, call.accumulate ? Way::add : Way::narrow);
    out.add(own.grad_x, call.grad_x);
    out.add(own.grad_h0, call.grad_h0);
    for (std::size_t i = 0; i < call.cells.size(); ++i) {
      const CellGradients &from = asked_[i], &to = call.cells[i];
      out.add(from.weight_ih, to.weight_ih);
      out.add(from.weight_hh, to.weight_hh);
      out.add(from.bias_ih, to.bias_ih);
      out.add(from.bias_hh, to.bias_hh);
    }
    out.launch();
  }

  void set_weights(std::span<const CellWeights> cells) requires TakesWeights<B> {
    if (!use_.weights) return backend_.set_weights(cells);
    require_reachable(space_, cells);
    ConversionList<Space> in(space_, widen_label_, problem_.options.dtype, Way::widen);
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const CellGradients& to = cells_[i];
      in.add(cells[i].weight_ih, to.weight_ih);
      in.add(cells[i].weight_hh, to.weight_hh);
      in.add(cells[i].bias_ih, to.bias_ih);
      in.add(cells[i].bias_hh, to.bias_hh);
      weights_[i] = {to.weight_ih, to.weight_hh,
                     cells[i].bias_ih.given() ? ConstTensorView(to.bias_ih) : ConstTensorView{},
                     cells[i].bias_hh.given() ? ConstTensorView(to.bias_hh) : ConstTensorView{}};
    }
    in.launch();
    backend_.set_weights(weights_);
  }
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
        use_(use_of(problem)),
        layout_(widened_layout(problem, use_)),
        memory_(SpaceTraits<Space>::allocate(space, label("widened"), std::max<std::size_t>(layout_.end, 1))) {
    if (!use_.gradients && !use_.weights) return;
    place_cells(problem.config, static_cast<std::byte*>(memory_.get()) + layout_.cells, &cells_);
    asked_.resize(cells_.size());
    weights_.resize(cells_.size());
  }

  static WidenedUse use_of(const Problem& problem) {
    const PlanOptions& o = problem.options;
    const bool trains = o.training != Training::none;
    return {trains || !Streams16Bits<B>, trains, o.training == Training::remake_gates && !ReservesOutputs<B>,
            trains || (o.takes_weights && !Packs16Bits<B>)};
  }

  /// The problem that B is asked.
  static Problem as_computed(const Problem& problem) {
    return use_of(problem).tensors ? in_float32_if_16_bits(problem) : problem;
  }

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
  WidenedUse use_;
  WidenedLayout layout_;
  std::shared_ptr<void> memory_;
  std::vector<CellGradients> cells_;  // the float32 parameters, or their gradients
  std::vector<CellGradients> asked_;  // those of them that a backward is asked for
  std::vector<CellWeights> weights_;  // of them for set_weights
  std::string widen_label_ = label("widen");
  std::string narrow_label_ = label("narrow");
};

}  // namespace gru::storage
