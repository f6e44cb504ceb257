#pragma once

#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "backends/candidate.hpp"
#include "gru/error.hpp"

namespace gru {

/// A space instance and its candidates, in the order in which they are asked.
struct Seat {
  std::shared_ptr<const AnySpace> space;
  std::vector<Candidate> candidates;
};

/// A plan's backend, and on what it runs.
struct Choice {
  std::shared_ptr<const AnySpace> space;
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
