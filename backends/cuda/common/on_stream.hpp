// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include "backends/cuda/choice.hpp"
#include "backends/cuda/common/stream_ref.hpp"
#include "gru/backend.hpp"

namespace gru::cuda {

/// A backend of the CUDA space S made of an engine that knows only a stream and its device. The engine's code is
/// compiled once for all spaces; it has the backend's name and its members, with StreamRef where the backend has S.
template <class S, class Engine>
class OnStream {
 public:
  using Space = S;
  static constexpr std::string_view name = Engine::name;

  static auto decide(const Problem& problem) {
    const Problem own = for_engine(problem);
    auto answer = Engine::decide(own);
    if (answer && own.options.math != problem.options.math) answer.reason += exacter_remark(problem);
    static_cast<Support&>(answer) = unless_slower(problem, name, answer, this_build());
    return answer;
  }

  using Answer = decltype(Engine::decide(std::declval<const Problem&>()));
  OnStream(const S& space, const Problem& problem, Answer answer, const Weights& weights)
      : space_(space), engine_(stream_of(space), for_engine(problem), std::move(answer), weights) {}

  void execute(const Call& call) { engine_.execute(call); }
  // Of engines that train.
  std::size_t reserve_bytes() const requires requires(const Engine& engine) { engine.reserve_bytes(); }
  { return engine_.reserve_bytes(); }
  void backward(const BackwardCall& call) requires requires(Engine& engine) { engine.backward(call); }
  { engine_.backward(call); }
  void set_weights(std::span<const CellWeights> cells) requires requires(Engine& engine) { engine.set_weights(cells); }
  { engine_.set_weights(cells); }
  OnStream fork(const S& space) const { return OnStream(space, engine_.fork(stream_of(space))); }
  void rebind(const S& space) {
    engine_.rebind(stream_of(space));
    space_ = space;
  }
  std::size_t workspace_bytes() const { return engine_.workspace_bytes(); }
  Status status() const { return engine_.status(); }

 private:
  /// An engine that has products in 16 bits says so; the others make them exacter.
  static Problem for_engine(const Problem& problem) {
    if constexpr (requires { Engine::has_16_bits; }) return problem;
    return with_exacter_math(problem);
  }

  OnStream(const S& space, Engine engine) : space_(space), engine_(std::move(engine)) {}

  S space_;  // keeps the stream alive
  Engine engine_;
};

}  // namespace gru::cuda
