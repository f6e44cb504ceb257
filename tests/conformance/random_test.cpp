// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "src/format.hpp"
#include "tests/support/environment.hpp"
#include "tests/support/scenario.hpp"

namespace gru::test {
namespace {

TEST_CASE("random: any combination of features on every target") {
  const std::uint64_t seed = test_seed();
  fmt::print("{} random problems from GRU_TEST_SEED={}; repeat one with GRU_TEST_SEED=<its seed> GRU_TEST_CONFIGS=1\n",
             test_configs(), seed);
  Tally tally;
  for (int i = 0; i < test_configs(); ++i) run_everywhere(random_scenario(seed + static_cast<std::uint64_t>(i)), tally);
  fmt::print("{} runs compared, {} refused\n", tally.ran, tally.refused.size());
  std::map<std::string, int> reasons;
  for (const std::string& reason : tally.refused) ++reasons[reason];
  for (const auto& [reason, count] : reasons) fmt::print("  {} x {}\n", count, reason);
  CHECK(tally.ran > 0);
}

// A weight with `bits` significant bits.
double rounded(double v, int bits) {
  int exponent = 0;
  const double mantissa = std::frexp(v, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(mantissa, bits)), exponent - bits);
}

// The problem with weights of so many bits: the input's, the recurrent ones, or both.
Data with_coarse_weights(const Scenario& s, const Data& exact, int bits, bool of_input, bool recurrent) {
  auto storage = std::make_shared<std::vector<std::vector<double>>>();
  const auto coarse = [&](const ConstTensorView& view, bool rounds) {
    if (!view.given() || !rounds) return view;
    storage->push_back(to_vector<double>(view));
    for (double& v : storage->back()) v = rounded(v, bits);
    return ConstTensorView{storage->back().data(), DType::float64, view.rank, view.extents,
                           contiguous_strides(view.rank, view.extents)};
  };
  std::vector<CellWeights> cells;
  for (std::int64_t layer = 0; layer < s.config.num_layers; ++layer) {
    for (std::int64_t d = 0; d < s.config.num_directions(); ++d) {
      const CellWeights& c = exact.weights.cell(layer, d);
      cells.push_back({coarse(c.weight_ih, of_input), coarse(c.weight_hh, recurrent), c.bias_ih, c.bias_hh});
    }
  }
  return {Weights(s.config, std::move(cells), storage), exact.x, exact.h0, exact.lengths};
}

TEST_CASE("random: the tolerance tells float32 from weights with fewer bits") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Scenario s;
    s.config = {.input_size = 40, .hidden_size = 64, .num_layers = 2, .bidirectional = seed % 2 == 0};
    s.steps = 20;
    s.batch = 3;
    s.seed = seed;
    CAPTURE(describe(s));
    const Data exact = make_data(s, DType::float32);
    const Expected expected = expect(s, exact);
    const Tolerance allowed = tolerance({s.config, plan_options(s), {}}, s.steps, expected.condition);
    const Expected other = expect(s, with_coarse_weights(s, exact, 13, true, true));
    const Comparison c = compare(expected.output, other.output);
    CHECK(c.worst > allowed.element);
    CHECK(c.relative_l2 > strict_l2_bar(DType::float32));
  }
}

// How much of the way from the exact results to those of coarser weights somebody's results have gone: 0 if his errors
// have nothing to do with that rounding, 1 if he rounds as coarsely. His own errors hardly count, as they point elsewhere.
double share_of_rounding(const Expected& exact, const Expected& coarse, const std::vector<double>& actual) {
  double along = 0;
  double whole = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double way = coarse.output[i] - exact.output[i];
    along += way * (actual[i] - exact.output[i]);
    whole += way * way;
  }
  return along / whole;
}

std::vector<double> output_of(const Target& target, const Scenario& s, const Data& data) {
  HostCall call = make_call(s, data, target.dtype);
  const auto session = target.plan(data.weights, plan_options(s));
  session->load(call);
  session->execute();
  session->fetch(call);
  CHECK(session->status().ok);
  return call.output.values();
}

// A tolerance cannot tell TF32 from weights in bfloat16: at these sizes the latter's error is 1.2e-3 to 2.4e-3, and that of
// hardware that truncates a product's factors to TF32 may reach 2.3e-3. The direction of the error can: in emulations
// TF32 goes -0.1 to 0.1 of the way to bfloat16 if it rounds and -0.2 to 0.3 if it truncates, weights in bfloat16 go 0.7 to 1.2.
constexpr double kFarthest = 0.5;

TEST_CASE("random: products keep the bits that their mode promises") {
  for (const std::int64_t hidden : {64, 140, 256}) {
    for (const bool bidirectional : {false, true}) {
      Scenario s;
      s.config = {.input_size = 40, .hidden_size = hidden, .num_layers = 2, .bidirectional = bidirectional};
      s.steps = 12;
      s.batch = 3;
      s.h0 = true;
      CAPTURE(describe(s));
      const Data data = make_data(s, DType::float32);
      const Expected exact = expect(s, data);
      for (const bool recurrent : {false, true}) {
        CAPTURE(recurrent);
        for (const auto& [math, fewer_bits] : {std::pair{Math::tf32, 8}, std::pair{Math::bf16, 5}}) {
          const Data coarse_data = with_coarse_weights(s, data, fewer_bits, !recurrent, recurrent);
          const Expected coarse = expect(s, coarse_data);
          for (const Target& target : targets()) {
            CAPTURE(target.name());
            if (target.dtype != DType::float32 || !target.supports(s.config, plan_options(s))) continue;
            if (target.math == math) CHECK(share_of_rounding(exact, coarse, output_of(target, s, data)) < kFarthest);
            // Whoever computed with such weights would be found out.
            if (target.math == Math::strict && target.is_host) {
              CHECK(share_of_rounding(exact, coarse, output_of(target, s, coarse_data)) > kFarthest);
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace gru::test
