// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backends/candidate.hpp"
#include "gru/error.hpp"

namespace gru {

/// A space and its candidates, in the order in which they are asked.
struct Seat {
  std::string space;
  std::vector<Candidate> candidates;
  /// The instance to run on, made when the first candidate is asked. Throws DeviceRefusal where this machine has no such
  /// device.
  std::function<std::shared_ptr<AnySpace>()> instance;
};

/// A seat with an instance that is there already.
Seat seat_at(std::shared_ptr<AnySpace> space, std::vector<Candidate> candidates);

/// Whether options.backend asks this candidate of this seat: "auto", the candidate's name on any seat that has it, or a
/// space's. A backend's name wins over a space's. Throws gru::Error for a name that means none of them.
class Names {
 public:
  Names(const std::vector<Seat>& seats, const std::string& wanted);
  bool by_backend() const { return by_backend_; }
  bool ask(const Seat& seat, const Candidate& candidate) const;

 private:
  std::string wanted_;
  bool by_backend_ = false;
};

/// The problem that the candidates of a space are asked about. A device profile stands for a GPU; a host answers for itself.
/// Throws gru::Error if the space is not ready or an option is out of range.
Problem problem_on(const AnySpace& space, const Config& config, const PlanOptions& options);

/// A plan's backend, and on what it runs.
struct Choice {
  std::shared_ptr<AnySpace> space;
  Problem problem;
  std::unique_ptr<AnyBackend> backend;
  std::string name;
  std::string why;  ///< why this one, and why not each of the others
};

/// Throws gru::Error: a plan for the problem could not be made ready, for this reason.
[[noreturn]] void throw_not_ready(const Problem& problem, const std::exception& reason);

/// f(), where whatever else than an Error comes out of it is one: std::bad_alloc, or what Kokkos throws in its place.
template <class F>
auto as_errors(const Problem& problem, const F& f) {
  try {
    return f();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw_not_ready(problem, error);
  }
}

/// Asks the candidates seat by seat: those that options.backend names, which may be "auto", a backend or a space (a
/// backend's name wins). The first that accepts, and whose device does not refuse it then, is constructed.
/// Each is asked once. Throws gru::Error for another name, options out of range, if no candidate is left, with all
/// reasons, and for whatever else keeps the chosen one from being made.
Choice choose(const std::vector<Seat>& seats, const Weights& weights, const PlanOptions& options);

}  // namespace gru
