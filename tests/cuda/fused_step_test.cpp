// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/training/recurrence/fused_step.hpp"

#include <doctest/doctest.h>

#include "backends/cuda/choice.hpp"
#include "backends/cuda/training/narrow.hpp"
#include "tests/cuda/profiles.hpp"

// Which tiles a training step in one launch takes, from numbers alone.

namespace gru::cuda {
namespace {

TEST_CASE("fused training step: what it does not compute has no tiles") {
  Problem p = problem_on("h200", 512, 256, 16);
  CHECK(choose_fused_steps(p, 1).possible());
  for (const std::int64_t hidden : {1, 32, 63, 65, 500, 544}) {
    CAPTURE(hidden);
    CHECK_FALSE(choose_fused_steps(problem_on("h200", hidden, 256, 16), 1).possible());
  }
  p.options.math = Math::tf32;
  CHECK_FALSE(choose_fused_steps(p, 1).possible());
  p.options.math = Math::strict;
  p.options.dtype = DType::float64;
  CHECK_FALSE(choose_fused_steps(p, 1).possible());
  p.options.dtype = DType::float32;
  p.config.reset_after = false;
  CHECK_FALSE(choose_fused_steps(p, 1).possible());
}

TEST_CASE("fused training step: tiles fill the device's multiprocessors and fit into its shared memory") {
  for (const std::string_view profile : kProfiles) {
    CAPTURE(profile);
    for (const std::int64_t hidden : {64, 128, 256, 512, 768, 1024, 2048}) {
      for (const std::int64_t batch : {1, 64, 256, 1024, 8192}) {
        const Problem p = problem_on(profile, hidden, batch, 16);
        const FusedSteps steps = choose_fused_steps(p, 1);
        REQUIRE(steps.possible());
        for (const FusedTile& tile : {kFusedTiles[static_cast<std::size_t>(steps.forward)],
                                      kFusedBackTiles[static_cast<std::size_t>(steps.backward)]}) {
          CHECK(hidden % tile.units() == 0);
          CHECK(tile.shared_bytes() <= p.device.shared_memory_per_block);
        }
        CHECK(steps.clocks > 0);
      }
    }
  }
  // One layer's 128 small blocks, two layers' 128 of twice that, and as many of the largest.
  CHECK(
      kFusedTiles[static_cast<std::size_t>(choose_fused_steps(problem_on("h200", 512, 256, 128), 1).forward)].units() ==
      16);
  const FusedSteps two = choose_fused_steps(problem_on("h200", 512, 256, 128), 2);
  CHECK(kFusedTiles[static_cast<std::size_t>(two.forward)].units() == 32);
  CHECK(kFusedBackTiles[static_cast<std::size_t>(two.backward)] == kFusedBackTiles[1]);
  CHECK(choose_fused_steps(problem_on("h200", 1024, 64, 64), 1).backward == 0);
  const FusedSteps large = choose_fused_steps(problem_on("h200", 1024, 1024, 64), 1);
  CHECK(kFusedTiles[static_cast<std::size_t>(large.forward)] == kFusedTiles[3]);
  CHECK(kFusedBackTiles[static_cast<std::size_t>(large.backward)] == kFusedBackTiles[2]);
}

TEST_CASE("fused training step: twice the batch takes longer, and few rows take no less than a tile of them") {
  const auto clocks = [](std::int64_t batch) {
    return choose_fused_steps(problem_on("h200", 1024, batch, 64), 1).clocks;
  };
  CHECK(clocks(1024) > 1.5 * clocks(512));
  CHECK(clocks(1) == clocks(64));
}

TEST_CASE("training in 16 bits: only for such maths, float32 inside, reset-after and operands at 16 bytes") {
  Problem p = problem_on("h200", 512, 256, 128);
  p.options.math = Math::fp16;
  CHECK_FALSE(trains_in_16_bits(p));  // it does not train
  p.options.training = Training::keep_gates;
  CHECK(trains_in_16_bits(p));
  CHECK(problem_for("cuda-training", p).options.math == Math::fp16);
  for (const std::int64_t hidden : {8, 32, 63, 72, 500, 544}) {
    Problem q = problem_on("h200", hidden, 256, 16);
    q.options.training = Training::keep_gates;
    q.options.math = Math::bf16;
    CHECK(trains_in_16_bits(q) == (hidden % 8 == 0));
    CHECK(problem_for("cuda-training", q).options.math == (hidden % 8 == 0 ? Math::bf16 : Math::tf32));
  }
  p.config.reset_after = false;
  CHECK_FALSE(trains_in_16_bits(p));
  p.config.reset_after = true;
  p.options.math = Math::tf32;
  CHECK_FALSE(trains_in_16_bits(p));
}

}  // namespace
}  // namespace gru::cuda
