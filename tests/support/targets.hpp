// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gru/call.hpp"
#include "gru/problem.hpp"
#include "gru/training.hpp"
#include "gru/weights.hpp"
#include "tests/support/field.hpp"

// Whoever computes a GRU, seen from a test: no template, host memory only. The names come from the library, so a backend
// or a space that joins its lists is tested by every test that walks over targets().

namespace gru::test {

/// The tensors of one execution on the host; fields of rank 0 are not given.
struct HostCall {
  Field x, h0, lengths, output, h_n;
};

/// The tensors of its backward: gradients that come in and go out; fields of rank 0 are not given.
struct HostBackward {
  Field grad_output, grad_h_n, grad_x, grad_h0;
  std::vector<std::array<Field, 4>> cells;  ///< [layer * D + direction]: weight_ih, weight_hh, bias_ih, bias_hh
  bool accumulate = false;
  std::uint64_t dropout_seed = 0;
  std::uint64_t dropout_offset = 0;
};
/// f(field) for all of them, always in the same order.
template <class Backward, class F>
void for_each_field(Backward& backward, const F& f) {
  for (auto* field : {&backward.grad_output, &backward.grad_h_n, &backward.grad_x, &backward.grad_h0}) f(*field);
  for (auto& cell : backward.cells) {
    for (auto& field : cell) f(field);
  }
}

/// One plan with its tensors in the memory of its space.
class Session {
 public:
  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  virtual ~Session() = default;

  virtual void load(const HostCall& call) = 0;  ///< copies the fields to the space
  virtual void execute() = 0;                   ///< Plan::execute with what was loaded; does not fence
  virtual void execute(const Call& call) = 0;   ///< Plan::execute with pointers as they are
  virtual void step() = 0;                      ///< Plan::step(x, h0, h_n) with what was loaded; does not fence
  virtual void fetch(HostCall& call) = 0;       ///< fences and copies all fields back, inputs too
  virtual std::unique_ptr<Session> fork() = 0;  ///< Plan::fork on another instance of the space
  virtual std::unique_ptr<Session> move() = 0;  ///< the same plan, moved to another object; this one is spent

  /// The same for an execution with a reserve, which a plan for training keeps here, and its backward.
  virtual void load(const HostCall& call, const HostBackward& backward) = 0;
  virtual void backward() = 0;                          ///< Plan::backward with what was loaded; does not fence
  virtual void backward(const BackwardCall& call) = 0;  ///< Plan::backward with pointers as they are
  virtual void fetch(HostCall& call, HostBackward& backward) = 0;
  virtual std::size_t reserve_bytes() const = 0;
  virtual void set_weights(const Weights& weights) = 0;  ///< Plan::set_weights from the space's memory; fences
  /// Plan::execute with what was loaded and weights in the space's memory; fences.
  virtual void execute(const Weights& weights) = 0;

  virtual std::string backend() const = 0;
  virtual std::string why() const = 0;
  virtual std::size_t workspace_bytes() const = 0;
  virtual Status status() const = 0;
};

/// One (space, backend, dtype, math mode) that this build offers.
struct Target {
  std::string space;  ///< the CLI's name
  std::string backend;
  DType dtype = DType::float32;
  Math math = Math::strict;
  bool is_host = true;
  bool listed = true;  ///< in the backend trait; else used without Plan
  /// The reason to refuse, or yes, from decide() on the device as it is.
  std::function<Support(const Config&, PlanOptions)> supports;
  /// A plan of exactly this backend, dtype and math mode; throws what Plan throws.
  std::function<std::unique_ptr<Session>(const Weights&, PlanOptions)> plan;

  std::string name() const;
  bool is_oracle() const { return backend == "eigen"; }
};

/// Every backend of every space of the list that this machine can run, in float32, float64, float16 and bfloat16; math modes
/// other than strict where decide() says yes to a small problem or to a short sequence of 256 units; and the device's form of the Kokkos patterns on the host.
/// Prints `skipped: no ... device` for spaces without a device.
const std::vector<Target>& all_targets();
/// Those of them whose name contains GRU_TEST_TARGETS.
const std::vector<Target>& targets();
/// The oracle in float64.
const Target& oracle();

/// A plan on the space with the options as they are: for tests of the choice itself.
struct SpaceInfo {
  std::string name;
  bool is_host = true;
  std::vector<std::string> backends;
  std::function<std::unique_ptr<Session>(const Weights&, const PlanOptions&)> plan;
};
const std::vector<SpaceInfo>& spaces_here();

}  // namespace gru::test
