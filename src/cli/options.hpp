// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gru/config.hpp"
#include "gru/device.hpp"
#include "gru/problem.hpp"
#include "gru/tensor.hpp"

// What several subcommands share: their flags, and the files that the flags name.

namespace gru::cli {

/// Takes numbers of at least 1. CLI11's own check names the largest double in 309 digits.
CLI::Validator positive();
/// Takes finite numbers of at least 0.
CLI::Validator non_negative();

/// A model and its data in files.
struct FileFlags {
  std::string weights, input, h0, lengths;
  std::optional<std::string> prefix;
  bool reset_before = false;
  bool batch_first = false;

  CLI::Option* weights_option = nullptr;
  CLI::Option* input_option = nullptr;
};
/// --weights --prefix --reset-before
void add_weight_flags(CLI::App& app, FileFlags& flags);
/// --input --batch-first, and with_state: --h0 --lengths
void add_input_flags(CLI::App& app, FileFlags& flags, bool with_state);

/// A random model and random data.
struct SizeFlags {
  Config config;
  bool no_bias = false;
  std::int64_t batch_size = 0, seq_len = 0;
  std::uint64_t seed = 1;

  std::vector<CLI::Option*> model_options;  ///< what a weights file settles
  std::vector<CLI::Option*> data_options;   ///< what an input file settles
  bool any_given() const;
};
/// --input-size --hidden-size --num-layers --bidirectional --no-bias, --batch-size --seq-len; what `flags` holds
/// already are the defaults. --seed is the caller's to add.
void add_size_flags(CLI::App& app, SizeFlags& flags);

/// How to compute.
struct PlanFlags {
  std::string device_name = "auto", backend = "auto", math = "strict", dtype = "float32", device_profile,
              tuning = "never";
  int reserve_sms = 0;

  /// Throws gru::Error for names that do not exist. Sizes stay 1.
  PlanOptions options(bool batch_first) const;
  /// Throws gru::Error, which lists the names, for a device that is not here.
  Device device() const;
};
/// --device --backend --math --dtype --device-profile --reserve-sms
void add_plan_flags(CLI::App& app, PlanFlags& flags);
/// --tuning
void add_tuning_flag(CLI::App& app, PlanFlags& flags);

/// Uniform in [-1, 1); the same numbers for a seed everywhere.
Tensor random_tensor(DType dtype, std::vector<std::int64_t> extents, std::uint64_t seed);

/// "1.25 ms", "31.0 us", "2.10 s".
std::string format_seconds(double seconds);

}  // namespace gru::cli
