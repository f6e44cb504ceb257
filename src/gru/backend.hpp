// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "gru/call.hpp"
#include "gru/error.hpp"
#include "gru/problem.hpp"
#include "gru/training.hpp"
#include "gru/weights.hpp"

namespace gru {

/// A compile-time list of types: the candidates of a space, the spaces of a build.
template <class... Ts>
struct list {
  static constexpr std::size_t size = sizeof...(Ts);  ///< number of types
};

/// What a backend decided about a problem: yes, with the schedule that it is constructed from, or the reason against it.
/// A backend without a schedule of its own takes the default.
template <class Schedule = std::monostate>
struct [[nodiscard]] Decision : Support {
  std::optional<Schedule> schedule;  ///< there if accepted

  /// Yes, with what the constructor needs.
  static Decision yes(Schedule schedule, std::string remark = {}) {
    return {Support::yes(std::move(remark)), std::move(schedule)};
  }
  /// No, with the reason in words and numbers.
  static Decision no(std::string reason) { return {Support::no(std::move(reason)), std::nullopt}; }
};

/// The device does not take what was decided from numbers: its memory is short, or blocks do not fit beside other work.
/// A backend's constructor throws it before anything is launched; the plan then asks the next candidate.
class DeviceRefusal : public Error {
 public:
  using Error::Error;
};

/// Who computes a GRU on the execution space B::Space. backends/README.md says how to write one.
///
/// * `decide` answers from numbers alone and touches no device. It is asked once a plan. Inference or training, dtype,
///   math mode and sizes are all values in Problem; there is no other question.
/// * The constructor takes that answer, packs the weights and allocates everything. It throws DeviceRefusal where the
///   device says no.
/// * `execute` gets a canonical call (gru::canonical) and only launches: no allocation, no host synchronisation (the Eigen
///   oracle is exempt), everything on the given space instance, labelled "gru::<backend>::<phase>".
/// * `fork` shares the packed weights and allocates a workspace of its own, for another space instance.
template <class B>
concept Backend = std::movable<B> && requires(const Problem& problem, const typename B::Space& space,
                                              const Weights& weights, B& b, const B& cb, const Call& call) {
  { B::name } -> std::convertible_to<std::string_view>;
  { B::decide(problem) } -> std::convertible_to<Support>;
  B(space, problem, B::decide(problem), weights);
  { b.execute(call) } -> std::same_as<void>;
  { cb.fork(space) } -> std::same_as<B>;
  { cb.workspace_bytes() } -> std::same_as<std::size_t>;
  { cb.status() } -> std::same_as<Status>;
};

/// A backend that also trains. It says no in `decide` to what it can't (PlanOptions::training, dropout); the plan says no
/// for a backend that is none.
///
/// * `reserve_bytes` is what an execution of the plan's maxima keeps; an execution with a reserve writes there.
/// * `backward` gets a canonical call (T >= 1, B may be 0: then parameters' gradients are sums of nothing) and only launches,
///   as `execute`.
/// * `set_weights` packs the caller's tensors, which lie in the plan's memory, into the weights that forks share; it only
///   launches.
template <class B>
concept TrainingBackend = Backend<B> && requires(B& b, const B& cb, const BackwardCall& call) {
  { cb.reserve_bytes() } -> std::same_as<std::size_t>;
  { b.backward(call) } -> std::same_as<void>;
};

/// What the tuner asks beside the contract; a backend may leave any of it out.
///
/// * `arrangements(problem)`: names for PlanOptions::arrangement, other than its own choice, that `decide` takes then.
///   kConservative is the baseline which the others must beat.
/// * `estimated_seconds(problem)`: of an execution, for the choice of what is worth a measurement.
/// * `is_reference`: for checking, never drawn.
template <class B>
concept OffersArrangements = Backend<B> && requires(const Problem& problem) {
  { B::arrangements(problem) } -> std::same_as<std::vector<std::string>>;
};
inline constexpr std::string_view kConservative = "conservative";  ///< four warps a block, two stages

/// The names of B's arrangements for a problem.
template <Backend B>
std::vector<std::string> arrangements_of([[maybe_unused]] const Problem& problem) {
  if constexpr (OffersArrangements<B>) return B::arrangements(problem);
  return {};
}

/// A backend that takes new weights from the plan's memory, for inference too.
template <class B>
concept TakesWeights = Backend<B> && requires(B& b, std::span<const CellWeights> cells) {
  { b.set_weights(cells) } -> std::same_as<void>;
};

/// A backend's decision; one that does not train says no to a plan for training.
template <Backend B>
auto ask(const Problem& problem) {
  using Answer = decltype(B::decide(problem));
  if (const std::string& wanted = problem.options.arrangement; !wanted.empty()) {
    const std::vector<std::string> offered = arrangements_of<B>(problem);
    if (std::ranges::find(offered, wanted) == offered.end()) {
      return Answer::no("it has no arrangement '" + wanted + "' for this problem");
    }
  }
  if (!TrainingBackend<B> && problem.options.training != Training::none) {
    return Answer::no("it computes no gradients; use training none");
  }
  if (!TakesWeights<B> && problem.options.takes_weights) {
    return Answer::no("it takes no new weights (takes_weights)");
  }
  return B::decide(problem);
}

}  // namespace gru
