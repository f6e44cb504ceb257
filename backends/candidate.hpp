// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Backends as run-time values: what a plan needs of one, and the lists of backends/list.hpp without their types.

#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/storage/widened.hpp"
#include "gru/backend.hpp"
#include "gru/detail/any_space.hpp"
#include "gru/error.hpp"

namespace gru {

/// What a plan knows of its backend; one virtual call an execution.
class AnyBackend {
 public:
  AnyBackend() = default;
  AnyBackend(const AnyBackend&) = delete;
  AnyBackend& operator=(const AnyBackend&) = delete;
  virtual ~AnyBackend() = default;
  virtual void execute(const Call& call) = 0;
  /// With these weights; what the backend's own are afterwards is its business.
  virtual void execute(const Call& call, std::span<const CellWeights> cells) = 0;
  /// `space` holds an instance of the backend's own space.
  virtual std::unique_ptr<AnyBackend> fork(const AnySpace& space) const = 0;
  /// Works on `space` from now on, an instance on the same device, without any allocation; false: it cannot.
  virtual bool rebind(const AnySpace& space) = 0;
  virtual std::size_t workspace_bytes() const = 0;
  virtual Status status() const = 0;
  virtual std::size_t reserve_bytes() const = 0;
  virtual void backward(const BackwardCall& call) = 0;
  virtual void set_weights(std::span<const CellWeights> cells) = 0;
};

/// The instance of B's space in `space`, whose type is known to be that.
template <Backend B>
const typename B::Space& instance_for(const AnySpace& space) {
  return static_cast<const SpaceInstance<typename B::Space>&>(space).get();
}

template <Backend B>
class ErasedBackend final : public AnyBackend {
 public:
  explicit ErasedBackend(B backend) : backend_(std::move(backend)) {}
  void execute(const Call& call) override { backend_.execute(call); }
  void execute(const Call& call, std::span<const CellWeights> cells) override {
    if constexpr (requires { backend_.execute(call, cells); }) {
      backend_.execute(call, cells);
    } else {
      set_weights(cells);
      backend_.execute(call);
    }
  }
  std::unique_ptr<AnyBackend> fork(const AnySpace& space) const override {
    return std::make_unique<ErasedBackend>(backend_.fork(instance_for<B>(space)));
  }
  bool rebind([[maybe_unused]] const AnySpace& space) override {
    if constexpr (requires { backend_.rebind(instance_for<B>(space)); }) {
      backend_.rebind(instance_for<B>(space));
      return true;
    } else {
      return false;
    }
  }
  std::size_t workspace_bytes() const override { return backend_.workspace_bytes(); }
  Status status() const override { return backend_.status(); }
  std::size_t reserve_bytes() const override {
    if constexpr (TrainingBackend<B>) return backend_.reserve_bytes();
    return 0;
  }
  // A backend that does not train never becomes a plan for training, and no other plan asks.
  void backward([[maybe_unused]] const BackwardCall& call) override {
    if constexpr (TrainingBackend<B>) backend_.backward(call);
  }
  void set_weights([[maybe_unused]] std::span<const CellWeights> cells) override {
    if constexpr (TakesWeights<B>) {
      backend_.set_weights(cells);
    } else {
      throw Error("gru::Plan::set_weights: the backend " + std::string(std::string_view(B::name)) +
                  " takes no new weights; make a new plan");
    }
  }

 private:
  B backend_;
};

/// A backend's answer to one problem, and how to construct it from that answer: once, with the same problem.
struct Offer {
  Support support;
  std::function<std::unique_ptr<AnyBackend>(const AnySpace&, const Problem&, const Weights&)> make;
};

/// One backend of a list.
struct Candidate {
  std::string name;
  Offer (*ask)(const Problem&) = nullptr;
  // For the tuner.
  std::vector<std::string> (*arrangements)(const Problem&) = nullptr;
  double (*estimated_seconds)(const Problem&) = nullptr;  ///< infinite: it does not take the problem, or gives none
  bool is_reference = false;
};

template <Backend B>
double estimated_seconds_of([[maybe_unused]] const Problem& problem) {
  if constexpr (requires { B::estimated_seconds(problem); }) {
    return B::estimated_seconds(storage::in_float32_if_16_bits(problem));
  }
  return std::numeric_limits<double>::infinity();
}

template <Backend B>
constexpr bool is_reference() {
  if constexpr (requires { B::is_reference; }) return B::is_reference;
  return false;
}

template <Backend B>
Offer offer_as_it_is(const Problem& problem) {
  auto decision = std::make_shared<decltype(B::decide(problem))>(gru::ask<B>(problem));
  Offer offer{*decision, {}};
  offer.make = [decision](const AnySpace& space, const Problem& same, const Weights& weights) {
    return std::make_unique<ErasedBackend<B>>(B(instance_for<B>(space), same, std::move(*decision), weights));
  };
  return offer;
}

/// B's answer; where the tensors have 16 bits and B does not read such, that of B with conversions around it.
template <Backend B>
Offer offer_of(const Problem& problem) {
  if constexpr (!storage::Takes16Bits<B>) {
    if (has_16_bits(problem.options.dtype)) return offer_as_it_is<storage::Widened<B>>(problem);
  }
  return offer_as_it_is<B>(problem);
}

template <Backend B>
std::vector<std::string> arrangements_as_computed(const Problem& problem) {
  return arrangements_of<B>(storage::in_float32_if_16_bits(problem));
}

template <Backend... Bs>
std::vector<Candidate> candidates_of(list<Bs...>) {
  return {Candidate{std::string(std::string_view(Bs::name)), &offer_of<Bs>, &arrangements_as_computed<Bs>,
                    &estimated_seconds_of<Bs>, is_reference<Bs>()}...};
}

}  // namespace gru
