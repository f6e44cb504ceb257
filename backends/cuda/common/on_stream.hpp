// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "backends/cuda/choice.hpp"
#include "backends/cuda/common/engine.hpp"
#include "backends/cuda/common/remembered.hpp"
#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/engines.hpp"
#include "gru/backend.hpp"

namespace gru::cuda {

/// A backend of the CUDA space S made of a kind of engine, which has
///     name                                         the backend's
///     decide(problem)                              a Decision of its schedule
///     make(stream, problem, schedule, weights)     the engine
template <class S, class Kind>
class OnStream {
 public:
  using Space = S;
  static constexpr std::string_view name = Kind::name;

  using Answer = decltype(Kind::decide(std::declval<const Problem&>()));
  using Schedule = typename decltype(Answer::schedule)::value_type;
  /// Others for calls that are smaller than planned; those that train serve every call themselves.
  static constexpr bool kHoldsOthers = std::is_constructible_v<AnySchedule, Schedule>;
  static Answer decide(const Problem& problem) {
    static Remembered<Answer> answers;
    return answers.of(problem, [&] {
      const Problem own = problem_for(name, problem);
      Answer answer = Kind::decide(own);
      if (answer && own.options.math != problem.options.math) answer.reason += exacter_remark(problem);
      static_cast<Support&>(answer) = unless_slower(problem, name, answer, this_build());
      if constexpr (kHoldsOthers) {
        if (answer) answer.reason += remembered_calls(problem, name, AnySchedule(*answer.schedule)).remark();
      }
      return answer;
    });
  }

  // For the tuner.
  static double estimated_seconds(const Problem& problem) { return estimate_of(problem, name, this_build()); }
  static std::vector<std::string> arrangements(const Problem& problem) {
    if constexpr (requires { Kind::arrangements(problem); }) return Kind::arrangements(problem_for(name, problem));
    return {};
  }

  /// Engine, or what is derived from it.
  using Made = typename decltype(Kind::make(StreamRef{}, std::declval<const Problem&>(), std::declval<Schedule>(),
                                            std::declval<const Weights&>()))::element_type;
  OnStream(const S& space, const Problem& problem, Answer answer, const Weights& weights) : space_(space) {
    SmallerCalls calls;
    if constexpr (kHoldsOthers) calls = remembered_calls(problem, name, AnySchedule(*answer.schedule));
    engine_ = Kind::make(stream_of(space), problem_for(name, problem), *std::move(answer.schedule), weights);
    if constexpr (kHoldsOthers) {
      engine_ = with_smaller_calls(std::move(engine_), stream_of(space), problem, std::move(calls), weights);
    }
  }

  void execute(const Call& call) { engine_->execute(call); }
  void require_no_abort() { engine_->require_no_abort(); }
  /// Of an engine that takes weights with an execution.
  void execute(const Call& call, std::span<const CellWeights> cells) requires requires(Made& e) {
    e.execute(call, cells);
  }
  { engine_->execute(call, cells); }
  // Of engines that train.
  std::size_t reserve_bytes() const requires requires(const Made& engine) { engine.reserve_bytes(); }
  { return engine_->reserve_bytes(); }
  void backward(const BackwardCall& call) requires requires(Made& engine) { engine.backward(call); }
  { engine_->backward(call); }
  static constexpr bool reserves_outputs = true;
  /// In the plan's dtype, those of 16 bits too.
  static constexpr bool packs_16_bits = true;
  void set_weights(std::span<const CellWeights> cells) { engine_->set_weights(cells); }
  OnStream fork(const S& space) const {
    std::unique_ptr<Engine> made = engine_->fork(stream_of(space));
    return OnStream(space, std::unique_ptr<Made>(static_cast<Made*>(made.release())));  // of the same kind
  }
  void rebind(const S& space) {
    engine_->rebind(stream_of(space));
    space_ = space;
  }
  std::size_t workspace_bytes() const { return engine_->workspace_bytes(); }
  Status status() const { return engine_->status(); }

 private:
  OnStream(const S& space, std::unique_ptr<Made> engine) : space_(space), engine_(std::move(engine)) {}

  S space_;  // keeps the stream alive
  std::unique_ptr<Made> engine_;
};

}  // namespace gru::cuda
