// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "gru/training.hpp"
#include "tests/support/scenario.hpp"

namespace gru::test {

/// A forward and its backward: a scenario, what is kept, dropout, and which gradients are asked for.
struct GradientScenario {
  Scenario forward;
  Training training = Training::keep_gates;
  double dropout = 0;
  std::uint64_t dropout_seed = 7;
  std::uint64_t dropout_offset = 3;
  bool grad_output = true;  ///< given; else zeros
  bool grad_h_n = true;     ///< given; else zeros
  bool grad_x = true;       ///< asked for
  bool grad_h0 = true;      ///< asked for
  bool cells = true;        ///< asked for
  bool accumulate = false;
  int reserve_sms = 0;  ///< of a GPU: leaves recurrences in one launch no room
  Layout grad_output_layout, grad_x_layout;
};
std::string describe(const GradientScenario& scenario);
GradientScenario random_gradients(std::uint64_t seed);

/// One gradient with its name, such as "x" or "weight_hh_l0_reverse"; a sequence has its batch in the middle.
struct Gradient {
  std::string name;
  std::vector<double> values;
};

/// What flows in, rounded to a dtype: grad_output (T, B, D*H), NaN in the padding, and grad_h_n (L*D, B, H).
struct Incoming {
  std::vector<double> output, h_n;
};
Incoming make_incoming(const GradientScenario& scenario, const Data& data, DType dtype);

PlanOptions plan_options(const GradientScenario& scenario);
/// Gradient fields as the scenario asks for them; with `accumulate` each element starts as kAccumulated.
inline constexpr double kAccumulated = 0.25;
HostBackward make_backward(const GradientScenario& scenario, const Incoming& incoming, DType dtype);

/// x, h0 and the parameters' in the order of cells, whatever of them is there.
std::vector<Gradient> gradients_of(const GradientScenario& scenario, const HostBackward& backward);

/// The oracle's in float64, of everything, from tensors that lie one element after another.
std::vector<Gradient> expect_gradients(const GradientScenario& scenario, const Data& data, const Incoming& incoming);

enum class Where : std::uint8_t { everywhere, devices };
inline constexpr DType kWide[] = {DType::float32, DType::float64};
inline constexpr DType kHalf[] = {DType::float16, DType::bfloat16};
inline constexpr Math kStrictAlone[] = {Math::strict};
inline constexpr Math kRounding[] = {Math::tf32, Math::fp16, Math::bf16};
inline constexpr DType kEvery[] = {DType::float32, DType::float64, DType::float16, DType::bfloat16};
/// Runs the scenario on every target that accepts, or on those of them that are no host, and checks each gradient that
/// was asked for. Of maths that round operands, within eight roundings of one.
void run_gradients_everywhere(const GradientScenario& scenario, Tally& tally, Where where = Where::everywhere,
                              std::span<const DType> dtypes = kWide, std::span<const Math> maths = kStrictAlone);

}  // namespace gru::test
