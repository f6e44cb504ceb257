#include <doctest/doctest.h>

#include "backends/cuda/persistent/cuda_persistent.hpp"
#include "backends/cuda/persistent/schedule.hpp"
#include "backends/cuda/single_block/schedule.hpp"

// Which persistent kernels are chosen, and what is refused, from numbers alone: no device needed.

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

TEST_CASE("persistent schedule: a team holds the smallest size that the units fit in") {
  const struct {
    std::int64_t hidden;
    int k, warps;
  } cases[] = {{1, 32, 1}, {32, 32, 1}, {33, 64, 4}, {64, 64, 4}, {65, 128, 8}, {128, 128, 8}};
  for (const auto& c : cases) {
    CAPTURE(c.hidden);
    const SmallSchedule s = make_small_schedule(problem(c.hidden, 3));
    REQUIRE(s.possible());
    CHECK(s.layers.front()->k == c.k);
    CHECK(s.layers.front()->warps == c.warps);
  }
  const SmallSchedule none = make_small_schedule(problem(129, 3));
  CHECK_FALSE(none.possible());
  CHECK(none.reason.find("H <= 128") != std::string::npos);
}

TEST_CASE("persistent schedule: few sequences take a team each, many share teams that all run at once") {
  CHECK(make_small_schedule(problem(32, 10)).layers.front()->sequences == 1);
  CHECK(make_small_schedule(problem(32, 1000)).layers.front()->sequences == 1);
  CHECK(make_small_schedule(problem(32, 4096)).layers.front()->sequences == 4);
  const SmallKernel& kernel = *make_small_schedule(problem(32, 4096)).layers.front();
  CHECK(teams_of_block(kernel, 4096, 1, 132) == 4);
  CHECK(teams_of_block(kernel, 4, 1, 132) == 1);
  CHECK(teams_of_block(kernel, 4 * 133, 2, 132) == 3);
}

TEST_CASE("persistent schedule: inputs that a lane can hold are multiplied in the same launch") {
  CHECK(make_small_schedule(problem(32, 4096, 16)).layers.front()->input_k == 16);
  CHECK(make_small_schedule(problem(32, 4096, 17)).layers.front()->input_k == 32);
  CHECK(make_small_schedule(problem(32, 4096, 33)).layers.front()->input_depth == 0);
  Problem stack = problem(32, 4096, 16);
  stack.config.num_layers = 2;
  stack.config.bidirectional = true;  // the second layer has 64 inputs
  const SmallSchedule s = make_small_schedule(stack);
  REQUIRE(s.layers.size() == 2);
  CHECK(s.layers[0]->input_k == 16);
  CHECK(s.layers[1]->input_depth == 0);
}

TEST_CASE("persistent schedule: up to 64 units single blocks take any T and TF32's place") {
  Problem p = problem(64, 3);
  p.options.math = Math::tf32;
  CHECK(SmallPersistent::decide(p));
  CHECK(PersistentEngine::decide(p).reason.find("strict float32") != std::string::npos);
  p.config.hidden_size = 65;
  CHECK_FALSE(SmallPersistent::decide(p));
  p = problem(64, 3);
  p.options.seq_len = 1;
  CHECK(PersistentEngine::decide(p));
  p.config.hidden_size = 128;
  CHECK_FALSE(PersistentEngine::decide(p));
  p.config.hidden_size = 256;
  const Support short_one = PersistentEngine::decide(p);
  CHECK_FALSE(short_one);
  CHECK(short_one.reason.find("T=4") != std::string::npos);
}

TEST_CASE("persistent schedule: a deep stack of single sequences runs all its layers at once instead") {
  Problem p = problem(128, 1, 128);
  p.config.num_layers = 6;
  p.options.seq_len = 1000;
  CHECK(make_small_schedule(p).possible());
  CHECK(PersistentEngine::decide(p).reason.find("exchange through") != std::string::npos);
}

TEST_CASE("persistent schedule: H above 1024 needs an H100's shared memory") {
  for (const std::int64_t hidden : {1025, 1536, 2048}) {
    CAPTURE(hidden);
    Problem p = problem(hidden, 1, hidden);
    CHECK(PersistentEngine::decide(p));
    p.device.sm_count = 128;
    p.device.shared_memory_per_block = std::size_t{99} << 10U;
    const Support small = PersistentEngine::decide(p);
    CHECK_FALSE(small);
    CHECK(small.reason.find("99 KB") != std::string::npos);
  }
  CHECK_FALSE(PersistentEngine::decide(problem(2049, 1, 16)));
}

TEST_CASE("persistent schedule: a wavefront takes as many groups to project as keep up with its recurrences") {
  Problem p = problem(256, 10, 128);
  p.config.num_layers = 6;
  p.options.seq_len = 512;
  const PersistentSchedule hopper = make_persistent_schedule(p);
  REQUIRE(hopper.kernel != nullptr);
  CHECK(hopper.kernel->cluster);
  CHECK(hopper.layers == 3);
  CHECK(hopper.batch_groups == 3);
  CHECK(hopper.project_groups == 3);
  // Without clusters a step takes longer, so two groups keep up, and what they leave serves a fourth slice of the batch.
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
  CHECK(PersistentEngine::decide(p).reason.find("meanwhile") != std::string::npos);
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

}  // namespace
}  // namespace gru::cuda
