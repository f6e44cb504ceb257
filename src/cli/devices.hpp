#pragma once

#include <string>
#include <vector>

#include "gru/config.hpp"
#include "gru/problem.hpp"

// The lists of backends/list.hpp as values: what the command line knows of spaces and backends. A space or a backend
// that joins the lists appears here by itself.

namespace gru::cli {

/// One space of the build, in the lists' order.
struct SpaceReport {
  std::string name;
  bool is_host = false;
  bool available = false;  ///< this machine has such a device
  DeviceInfo device;       ///< if available
  std::vector<std::string> backends;
};

/// Looks at every space. Kokkos must be initialised.
std::vector<SpaceReport> survey_spaces();

/// One backend's answer to one problem.
struct Answer {
  std::string space;
  std::string backend;
  bool available = false;
  bool is_host = false;
  Support support;  ///< no, if the space has no device here
};

/// options.backend names whom to ask: "auto" all, a backend's name that one on every space that has it, a space's name
/// all of its backends; a backend's name wins over a space's. Throws gru::Error for another name, for a name without a
/// device, and for GPU options where no GPU is asked.
void check_names(const std::vector<SpaceReport>& reports, const PlanOptions& options);

/// Asks them. Throws gru::Error as check_names, and for sizes out of range.
std::vector<Answer> ask(const std::vector<SpaceReport>& reports, const Config& config, const PlanOptions& options);

struct Choice {
  std::string space;
  std::string backend;
  std::string why;  ///< why this one, and why not each of the others
};

/// The first that says yes; throws gru::Error with all reasons if none does.
Choice choose(const std::vector<Answer>& answers);

/// "auto, kokkos, eigen": what --backend takes, for help texts.
std::string backend_choices();

}  // namespace gru::cli
