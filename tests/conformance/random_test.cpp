#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <vector>

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
    std::vector<std::vector<double>> storage;
    const auto coarse = [&](const ConstTensorView& view) {
      storage.push_back(to_vector<double>(view));
      for (double& v : storage.back()) v = rounded(v, 13);
      return ConstTensorView{storage.back().data(), DType::float64, view.rank, view.extents,
                             contiguous_strides(view.rank, view.extents)};
    };
    std::vector<CellWeights> cells;
    for (std::int64_t layer = 0; layer < s.config.num_layers; ++layer) {
      for (std::int64_t d = 0; d < s.config.num_directions(); ++d) {
        const CellWeights& c = exact.weights.cell(layer, d);
        cells.push_back({coarse(c.weight_ih), coarse(c.weight_hh), coarse(c.bias_ih), coarse(c.bias_hh)});
      }
    }
    const Expected other = expect(s, {Weights(s.config, cells), exact.x, exact.h0, exact.lengths});
    const Comparison c = compare(expected.output, other.output);
    CHECK(c.worst > allowed.element);
    CHECK(c.relative_l2 > strict_l2_bar(DType::float32));
  }
}

}  // namespace
}  // namespace gru::test
