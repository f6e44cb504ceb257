#pragma once

#include <concepts>
#include <cstddef>
#include <string_view>

#include "gru/call.hpp"
#include "gru/problem.hpp"
#include "gru/weights.hpp"

namespace gru {

/// A compile-time list of types: the candidates of a space, the spaces of a build.
template <class... Ts>
struct list {
  static constexpr std::size_t size = sizeof...(Ts);
};

/// Who computes a GRU on the execution space B::Space. backends/README.md says how to write one.
///
/// * `supports` answers from numbers alone and touches no device.
/// * The constructor packs the weights and allocates everything.
/// * `execute` gets a canonical call (gru::canonical) and only launches: no allocation, no host synchronisation (the Eigen
///   oracle is exempt), everything on the given space instance, labelled "gru::<backend>::<phase>".
/// * `fork` shares the packed weights and allocates a workspace of its own, for another space instance.
template <class B>
concept Backend = std::movable<B> && requires(const Problem& problem, const typename B::Space& space,
                                              const Weights& weights, B& b, const B& cb, const Call& call) {
  { B::name } -> std::convertible_to<std::string_view>;
  { B::supports(problem) } -> std::same_as<Support>;
  B(space, problem, weights);
  { b.execute(call) } -> std::same_as<void>;
  { cb.fork(space) } -> std::same_as<B>;
  { cb.workspace_bytes() } -> std::same_as<std::size_t>;
  { cb.status() } -> std::same_as<Status>;
};

}  // namespace gru
