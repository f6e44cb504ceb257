// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "gru/problem.hpp"
#include "gru/weights.hpp"
#include "src/accuracy.hpp"
#include "tests/support/targets.hpp"

namespace gru::test {

/// One GRU problem: sizes, flags, which tensors are given and how they lie in memory. Everything random in it follows
/// from the seed.
struct Scenario {
  Config config{.input_size = 3, .hidden_size = 4};
  std::int64_t steps = 5;        ///< T
  std::int64_t batch = 2;        ///< B
  std::int64_t spare_steps = 0;  ///< the plan's seq_len is T + spare_steps
  std::int64_t spare_batch = 0;  ///< the plan's batch_size is B + spare_batch
  bool batch_first = false;
  bool unbatched = false;  ///< B is 1 then
  bool h0 = false;
  bool lengths = false;
  DType lengths_dtype = DType::int64;
  std::vector<std::int64_t> given_lengths;  ///< empty: drawn from 0..T
  bool output = true;
  bool h_n = true;
  int reserve_sms = 0;
  std::string device_profile;  ///< of the plan: as if the GPU were this one
  std::string arrangement;     ///< of the plan
  double weight_scale = 1;     ///< times torch's initial scale 1/sqrt(H)
  Layout x_layout, h0_layout, output_layout, h_n_layout;
  std::uint64_t seed = 1;
};
std::string describe(const Scenario& scenario);

/// Any combination of all features at small sizes.
Scenario random_scenario(std::uint64_t seed);

/// A scenario's weights and data, rounded to a dtype, in torch's order with batch in the middle: x (T, B, I),
/// h0 (L*D, B, H). x is NaN where a row has ended.
struct Data {
  Weights weights;
  std::vector<double> x, h0;
  std::vector<std::int64_t> lengths;  ///< B entries, T without lengths
};
Data make_data(const Scenario& scenario, DType dtype);

/// The oracle's results in float64, from tensors that lie one element after another, and what they depend on.
struct Expected {
  std::vector<double> output;  ///< (T, B, D*H)
  std::vector<double> h_n;     ///< (L*D, B, H)
  Condition condition;
};
/// `known`: a condition to take instead of measuring it.
Expected expect(const Scenario& scenario, const Data& data, const std::optional<Condition>& known = std::nullopt);

/// The call of a scenario: its tensors laid out as it says; outputs untouched.
HostCall make_call(const Scenario& scenario, const Data& data, DType dtype);
PlanOptions plan_options(const Scenario& scenario);
/// Of x (or its gradient), or with D*H features of output, as the caller hands it over.
std::vector<std::int64_t> sequence_extents(const Scenario& scenario, std::int64_t features);
/// (a, b, c) in row-major order as (b, a, c).
std::vector<double> swapped(const std::vector<double>& values, std::int64_t a, std::int64_t b, std::int64_t c);

/// Checks with doctest what a call left behind: values within the tolerance, zeros after each row's end, inputs as they
/// were, nothing written beside the outputs. A failure shows the worst element.
void check_results(const Scenario& scenario, const Target& target, const Data& data, const Expected& expected,
                   const HostCall& before, const HostCall& after);

/// plan, execute, fetch and check on every target that accepts, each in its dtype. `refused` collects the reasons of
/// those that do not; each of them must refuse the same way when it is named.
struct Tally {
  std::int64_t ran = 0;
  std::vector<std::string> refused;
};
void run_everywhere(const Scenario& scenario, Tally& tally);
/// The same, where somebody has to accept.
void run_everywhere(const Scenario& scenario);
/// The same on targets that are devices; prints `skipped: no CUDA device` where there is none.
void run_on_devices(const Scenario& scenario);
/// On devices' targets of float32 tensors with products in 16 bits, where a backend other than the plain product serves them.
void run_kernels_of_16_bits(const Scenario& scenario);

/// On cuda-tiles' targets of float32 tensors: once with each tile.
void run_on_tiles(const Scenario& scenario);

}  // namespace gru::test
