// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "backends/cuda/persistent/schedule/schedule.hpp"
#include "tests/cuda/profiles.hpp"

// Which persistent kernels are chosen, from numbers alone: no device and no CUDA needed.

namespace gru::cuda {
namespace {

Problem problem(std::int64_t hidden, std::int64_t batch, std::int64_t inputs = 16) {
  Problem p;
  p.config = {.input_size = inputs, .hidden_size = hidden};
  p.options.batch_size = batch;
  p.options.seq_len = 100;
  p.device.compute_capability = 90;
  p.device.sm_count = 132;
  p.device.shared_memory_per_block = std::size_t{227} << 10U;
  p.device.max_cluster_size = 8;
  return p;
}

TEST_CASE("persistent schedule: a wavefront takes as many groups to project as keep up with its recurrences") {
  Problem p = problem(256, 10, 128);
  p.config.num_layers = 6;
  p.options.seq_len = 512;
  const PersistentSchedule hopper = make_persistent_schedule(p);
  REQUIRE(hopper.kernel != nullptr);
  CHECK(hopper.kernel->cluster());
  CHECK(hopper.layers == 3);
  CHECK(hopper.batch_groups == 3);
  CHECK(hopper.project_groups == 3);
  // Without clusters a step takes longer, so two groups keep up, and what they leave serves a fourth slice of the
  // batch.
  p.device = {.name = "",
              .compute_capability = 89,
              .sm_count = 128,
              .shared_memory_per_block = std::size_t{99} << 10U,
              .max_cluster_size = 1};
  const PersistentSchedule ada = make_persistent_schedule(p);
  REQUIRE(ada.kernel != nullptr);
  CHECK(ada.layers == 3);
  CHECK(ada.batch_groups == 4);
  CHECK(ada.project_groups == 2);
  CHECK(ada.blocks == 128);
}

TEST_CASE(
    "persistent schedule: layers launched one by one project the next one's inputs beside them, where devices "
    "overlap") {
  const auto overlaps = [](const Problem& p) {
    const PersistentSchedule s = make_persistent_schedule(p);
    REQUIRE(s.kernel != nullptr);
    return s.overlap();
  };
  Problem p = problem(256, 10, 128);
  p.config.num_layers = 6;
  p.config.bidirectional = true;
  p.options.seq_len = 512;
  CHECK(overlaps(p));
  CHECK(make_persistent_schedule(p).reason.find("meanwhile") != std::string::npos);
  Problem other = p;
  other.config.num_layers = 1;
  CHECK_FALSE(overlaps(other));
  other = p;
  other.config.hidden_size = 250;  // slices of 16 columns
  CHECK_FALSE(overlaps(other));
  other = p;
  other.options.math = Math::tf32;  // the library's products are faster then
  CHECK_FALSE(overlaps(other));
  other = p;
  other.options.reserve_sms = 1;  // it would take them
  CHECK_FALSE(overlaps(other));
  other = p;
  other.device.compute_capability = 89;
  other.device.max_cluster_size = 1;
  CHECK_FALSE(overlaps(other));
}

TEST_CASE("persistent schedule: training takes the same arrangements, but for those that its kernels don't have") {
  Problem p = problem(256, 10, 128);
  p.config.num_layers = 6;
  p.options.seq_len = 512;
  const PersistentSchedule stack = make_keeping_schedule(p);
  REQUIRE(stack.kernel != nullptr);
  CHECK(stack.keeps);
  CHECK(stack.layers == make_persistent_schedule(p).layers);
  CHECK(stack.shared_bytes == stack.kernel->keeping_shared_bytes(stack.slices));
  p.options.dropout = 0.5;  // falls between layers, which a wavefront does not wait for
  CHECK(make_keeping_schedule(p).layers == 1);
  p.config.bidirectional = true;
  CHECK_FALSE(make_keeping_schedule(p).overlap());
  p.config.hidden_size = 254;  // rows of weights are read by fours
  CHECK(make_keeping_schedule(p).kernel == nullptr);
  CHECK(make_keeping_schedule(problem(1100, 1)).kernel == nullptr);
  CHECK(make_keeping_schedule(problem(1024, 1)).kernel != nullptr);
}

TEST_CASE("persistent schedule: on every device an arrangement is resident at once and fits a block's shared memory") {
  int arrangements = 0;
  for (const std::string_view profile : kProfiles) {
    for (const std::int64_t hidden : {1, 64, 200, 256, 300, 512, 777, 1024, 1025, 2048}) {
      for (const std::int64_t batch : {1, 3, 10, 32, 64}) {
        for (const std::int64_t layers : {1, 6}) {
          CAPTURE(profile);
          CAPTURE(hidden);
          CAPTURE(batch);
          CAPTURE(layers);
          Problem p = problem_on(profile, hidden, batch, 100);
          p.config.num_layers = layers;
          for (const PersistentCandidate& c : persistent_candidates(p, true)) {
            const PersistentSchedule& s = c.schedule;
            ++arrangements;
            REQUIRE(s.kernel != nullptr);
            CHECK(s.blocks <= p.device.sm_count);
            CHECK(static_cast<std::size_t>(s.shared_bytes) <= p.device.shared_memory_per_block);
            CHECK(s.threads <= s.kernel->max_threads);
            CHECK(s.hidden_padded >= hidden);
            CHECK(s.kernel->k >= hidden);
            CHECK(std::int64_t{s.batch_groups} * s.slices * s.kernel->pack >= batch);
            CHECK((!s.kernel->cluster() || p.device.max_cluster_size >= s.kernel->cluster_blocks));
            CHECK(c.clocks > 0);
          }
        }
      }
    }
  }
  CHECK(arrangements > 1000);
}

TEST_CASE("persistent schedule: the named cases on each device, as measured and documented") {
  const struct {
    std::string_view profile;
    std::int64_t hidden, batch, layers, steps, inputs;
    bool bidirectional, cluster;
    int layers_a_launch, blocks;
  } cases[] = {
      {"h100", 256, 10, 6, 512, 128, true, true, 1, 80},      // kb41
      {"h200", 256, 10, 6, 512, 128, true, true, 1, 80},      //
      {"h100", 512, 1, 3, 1000, 80, false, true, 3, 80},      // speech
      {"h100", 1024, 1, 1, 1500, 1024, false, false, 1, 64},  // db1024
      {"rtx4090", 1024, 1, 1, 1500, 1024, false, false, 1, 64},
  };
  for (const auto& c : cases) {
    CAPTURE(c.profile);
    CAPTURE(c.hidden);
    Problem p = problem_on(c.profile, c.hidden, c.batch, c.steps, c.inputs);
    p.config.num_layers = c.layers;
    p.config.bidirectional = c.bidirectional;
    const PersistentSchedule s = make_persistent_schedule(p);
    REQUIRE(s.kernel != nullptr);
    CHECK(s.kernel->cluster() == c.cluster);
    CHECK(s.layers == c.layers_a_launch);
    CHECK(s.blocks == c.blocks);
  }
}

TEST_CASE("persistent schedule: in 16 bits on every device, and none of it in other modes") {
  for (const std::string_view profile : kProfiles) {
    for (const std::int64_t hidden : {1, 200, 256, 300, 512, 777, 1024, 1025, 2048}) {
      for (const std::int64_t batch : {1, 3, 10, 32}) {
        for (const Math math : {Math::strict, Math::tf32, Math::fp16, Math::bf16}) {
          CAPTURE(profile);
          CAPTURE(hidden);
          CAPTURE(batch);
          CAPTURE(name_of(math));
          const Problem p = problem_on(profile, hidden, batch, 100, 0, math);
          const Factors own = math == Math::fp16   ? Factors::float16
                              : math == Math::bf16 ? Factors::bfloat16
                                                   : Factors::float32;
          bool half = false;
          for (const PersistentCandidate& c : persistent_candidates(p, true)) {
            const PersistentSchedule& s = c.schedule;
            CHECK((s.kernel->factors == Factors::float32 || s.kernel->factors == own));
            CHECK(static_cast<std::size_t>(s.shared_bytes) <= p.device.shared_memory_per_block);
            CHECK(s.blocks <= p.device.sm_count);
            half = half || s.kernel->in_16_bits();
          }
          // 2048 units are 128 blocks, an A100 has 108 multiprocessors.
          if (own != Factors::float32 && batch == 1)
            CHECK(half == (hidden <= 1024 || p.device.sm_count >= hidden / 16));
        }
      }
    }
  }
}

TEST_CASE("persistent schedule: the named cases in 16 bits, as measured and documented") {
  const struct {
    std::int64_t hidden, batch, layers, steps, inputs;
    bool bidirectional;
    int layers_a_launch, blocks, pack;
  } cases[] = {
      {256, 10, 6, 512, 128, false, 6, 88, 8},    // kb39
      {256, 10, 6, 512, 128, true, 1, 80, 2},     // kb41
      {512, 1, 3, 1000, 80, false, 3, 80, 1},     // speech
      {2048, 1, 1, 375, 2048, false, 1, 128, 1},  // db2048
      {512, 32, 2, 256, 512, true, 1, 128, 4},    // mid
  };
  for (const auto& c : cases) {
    CAPTURE(c.hidden);
    CAPTURE(c.bidirectional);
    Problem p = problem_on("h200", c.hidden, c.batch, c.steps, c.inputs, Math::fp16);
    p.config.num_layers = c.layers;
    p.config.bidirectional = c.bidirectional;
    const PersistentSchedule s = make_persistent_schedule(p);
    REQUIRE(s.kernel != nullptr);
    CHECK(s.kernel->in_16_bits());
    CHECK(s.layers == c.layers_a_launch);
    CHECK(s.blocks == c.blocks);
    CHECK(s.kernel->pack == c.pack);
    const auto answer = decide_persistent(p, build_for("h200"));
    REQUIRE(answer);
    CHECK(answer.reason.find("16 bits") != std::string::npos);
  }
}

TEST_CASE("persistent schedule: H above 1024 needs more shared memory than an A100 or an RTX 4090 has") {
  for (const std::int64_t hidden : {1025, 1536, 2048}) {
    CAPTURE(hidden);
    CHECK(make_persistent_schedule(problem_on("h100", hidden, 1, 100)).kernel != nullptr);
    for (const std::string_view profile : {"rtx4090", "a100"}) {
      const PersistentSchedule s = make_persistent_schedule(problem_on(profile, hidden, 1, 100));
      CHECK(s.kernel == nullptr);
      CHECK(s.reason.find(profile == "a100" ? "163 KB" : "99 KB") != std::string::npos);
    }
  }
  CHECK(make_persistent_schedule(problem_on("h200", 2049, 1, 100)).kernel == nullptr);
}

}  // namespace
}  // namespace gru::cuda
