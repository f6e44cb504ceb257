#include <doctest/doctest.h>
#include <fmt/format.h>

#include <map>

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

}  // namespace
}  // namespace gru::test
