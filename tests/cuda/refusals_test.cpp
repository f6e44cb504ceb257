#include <doctest/doctest.h>

#include "backends/cuda/per_step/per_step.hpp"
#include "backends/cuda/persistent/cuda_persistent.hpp"
#include "tests/cuda/profiles.hpp"

// What the backends refuse, and which of them leaves what to another: from numbers alone.

namespace gru::cuda {
namespace {

Problem problem(std::int64_t hidden, std::int64_t batch, std::int64_t inputs = 16) {
  return problem_on("h100", hidden, batch, 100, inputs);
}

TEST_CASE("refusals: up to 64 units single blocks take any T and TF32's place") {
  Problem p = problem(64, 3);
  p.options.math = Math::tf32;
  CHECK(SmallPersistent::supports(p));
  CHECK(PersistentEngine::supports(p).reason.find("strict float32") != std::string::npos);
  p.config.hidden_size = 65;
  CHECK_FALSE(SmallPersistent::supports(p));
  p = problem(64, 3);
  p.options.seq_len = 1;
  CHECK(PersistentEngine::supports(p));
  p.config.hidden_size = 128;
  CHECK_FALSE(PersistentEngine::supports(p));
  p.config.hidden_size = 256;
  const Support short_one = PersistentEngine::supports(p);
  CHECK_FALSE(short_one);
  CHECK(short_one.reason.find("T=4") != std::string::npos);
}

TEST_CASE("refusals: a deep stack of single sequences runs all its layers at once instead") {
  Problem p = problem(128, 1, 128);
  p.config.num_layers = 6;
  p.options.seq_len = 1000;
  CHECK(make_small_schedule(p).possible());
  CHECK(PersistentEngine::supports(p).reason.find("exchange through") != std::string::npos);
}

TEST_CASE("refusals: H above 1024 needs an H100's shared memory") {
  for (const std::int64_t hidden : {1025, 1536, 2048}) {
    CAPTURE(hidden);
    Problem p = problem(hidden, 1, hidden);
    CHECK(PersistentEngine::supports(p));
    p.device.sm_count = 128;
    p.device.shared_memory_per_block = std::size_t{99} << 10U;
    const Support small = PersistentEngine::supports(p);
    CHECK_FALSE(small);
    CHECK(small.reason.find("99 KB") != std::string::npos);
  }
  CHECK_FALSE(PersistentEngine::supports(problem(2049, 1, 16)));
}

TEST_CASE("refusals: what is not built is refused in words") {
  CHECK_FALSE(PerStep::supports(problem_on("h100", 64, 1, 1, 0, Math::fp16)));
  Problem turing = problem_on("h100", 64, 1, 1);
  turing.device.compute_capability = 75;
  const Support old = PerStep::supports(turing);
  CHECK_FALSE(old);
  CHECK(old.reason.find("7.5") != std::string::npos);
  CHECK_FALSE(PerStep::supports(problem_on("h100", 64, std::int64_t{1} << 40, 1)));
  CHECK(PerStep::supports(problem_on("h100", 64, 1, 1)));
}

}  // namespace
}  // namespace gru::cuda
