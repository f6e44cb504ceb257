// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "bench/measure/clock.hpp"
#include "gru/device.hpp"
#include "gru/problem.hpp"
#include "gru/tensor.hpp"
#include "gru/weights.hpp"

/// What `gru bench` does. The command line is a thin door to run(); peers use the same cases, clock and JSON.
namespace gru::bench {

/// One GRU and its data, ready to be timed on any backend. A sequence of one step in one direction is timed as
/// Plan::step, everything else as Plan::execute with h0 given and output and h_n wanted.
struct Workload {
  std::string name;
  Weights weights;
  Tensor x;  ///< (T, B, I), (T, I) unbatched, or (B, T, I) if batch_first is set
  bool batch_first = false;

  std::int64_t seq_len() const;
  std::int64_t batch_size() const;
  bool is_step() const;
};

/// Random weights and a random x of the given sizes; the same numbers for the same sizes everywhere.
Workload random_workload(std::string name, const Config& config, std::int64_t seq_len, std::int64_t batch_size,
                         DType dtype);

struct Options {
  std::vector<std::string> cases;    ///< names from the table; empty: each kind of space has its defaults
  std::optional<Workload> workload;  ///< the caller's own instead of the cases
  /// backend (auto: all; a space's name: all of its backends), dtype, math, device_profile and the GPU's options count;
  /// sizes and batch_first come from the workload.
  PlanOptions plan;
  Device device;  ///< whose backends; auto: all of this machine, of several GPUs the first
  Effort effort;
  std::string json;   ///< file to write, "-" for stdout in place of the table, empty for none
  bool list = false;  ///< print the cases and stop
};

/// One row: one workload on one backend.
struct Measurement {
  std::string case_name;
  std::string space;
  std::string backend;
  Problem problem;  ///< config, sizes, dtype, math, device
  bool is_step = false;
  Summary prepare;  ///< seconds: choosing the backend, packing, allocating
  Summary execute;  ///< seconds: one execution, or one step
  Summary forward;  ///< seconds, of plans for training: then `execute` is forward and backward
  Summary backward;
  std::size_t reserve_bytes = 0;
  std::size_t workspace_bytes = 0;
  double peak_gflops = 0;  ///< 0: not measured on this space

  double gflops() const;      ///< of the median execution; a backward has twice a forward's operations
  double peak_share() const;  ///< 0 if the peak was not measured
};

/// A row that is not there, and why.
struct Skipped {
  std::string case_name;
  std::string backend;
  std::string reason;
};

struct Report {
  std::vector<Measurement> measurements;
  std::vector<Skipped> skipped;  ///< known before: no device, refused by the backend, the oracle on a large case
  std::vector<Skipped> failed;   ///< at run time, with the error
};

/// Throws gru::Error for what is wrong with the options: names that do not exist, sizes and efforts out of range, a
/// file that cannot be written, nothing left to time (with every backend's reason). Measures nothing.
void check(const Options& options);

/// Times every workload on every backend that the options name. Progress goes to `progress` once a second has passed.
/// Throws as check() does, but for the file.
Report measure(const Options& options, std::ostream& progress);

/// The whole of `gru bench`: checks, measures, prints the table or JSON to `out`. Returns the exit status: 0, or 1 if
/// something failed while it was measured.
/// `progress` is for a terminal: its line is rewritten in place; pass a stream without buffer where nobody watches.
int run(const Options& options, std::ostream& out, std::ostream& progress);

}  // namespace gru::bench
