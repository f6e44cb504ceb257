// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "bench/bench.hpp"
#include "bench/cases.hpp"
#include "gru/device.hpp"

namespace gru::bench {

/// A row to be: what to time, on which space and backend. Nothing is allocated before its turn comes.
struct Job {
  std::string case_name;
  const Case* source = nullptr;  ///< nullptr: the caller's own workload
  Device device;
  std::string space;
  PlanOptions options;  ///< complete: backend, sizes, batch_first, dtype
};

struct JobList {
  std::vector<Job> jobs;
  std::vector<Skipped> skipped;  ///< no device, refused by the backend, or the oracle on a large case
};

/// Every pair of workload and backend that the options ask for. Throws gru::Error for names that do not exist, options
/// out of range, and if nothing at all is left to time (with the reasons).
JobList list_jobs(const Options& options);

}  // namespace gru::bench
