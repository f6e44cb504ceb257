// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <unistd.h>

#include <Kokkos_Core.hpp>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <fstream>
#include <thread>
#include <utility>
#include <vector>

#include "gru/gru.hpp"
#include "tests/support/alarm.hpp"
#include "tests/support/environment.hpp"
#include "tests/support/sanitizer.hpp"

// Eight threads make, fork, run and destroy plans for some seconds, GRU_TEST_SOAK_SECONDS of them: always the same results, and
// the process stays as large as it was.
namespace gru::test {
namespace {

using Host = Kokkos::DefaultHostExecutionSpace;
using Clock = std::chrono::steady_clock;
constexpr int kThreads = 8;

struct Job {
  Config config;
  std::int64_t steps, batch;
  bool lengths;
};
const std::array<Job, 4> kJobs = {
    Job{{.input_size = 8, .hidden_size = 16}, 5, 2, false},
    Job{{.input_size = 16, .hidden_size = 128, .num_layers = 2}, 6, 3, false},
    Job{{.input_size = 5, .hidden_size = 40, .num_layers = 2, .bidirectional = true}, 7, 33, true},
    Job{{.input_size = 70, .hidden_size = 64, .reset_after = false}, 4, 9, true},
};

struct Prepared {
  Job job;
  Weights weights;
  Tensor x;
  std::vector<std::int32_t> lengths;

  explicit Prepared(const Job& j)
      : job(j),
        weights(Weights::random(j.config, 2, DType::float32)),
        x(DType::float32, {j.steps, j.batch, j.config.input_size}) {
    for (std::int64_t i = 0; i < x.size(); ++i) x.data<float>()[i] = 0.03F * static_cast<float>(i % 31) - 0.4F;
    for (std::int64_t b = 0; b < j.batch; ++b) lengths.push_back(static_cast<std::int32_t>(b % (j.steps + 1)));
  }
  std::vector<float> run(Plan<Host>& plan) const {
    Tensor output(DType::float32, {job.steps, job.batch, job.config.num_directions() * job.config.hidden_size});
    Call call{.x = x.view(), .h0 = {}, .lengths = {}, .output = output.view(), .h_n = {}};
    if (job.lengths) call.lengths = tensor_view(lengths.data(), {job.batch});
    plan.execute(call);
    return {output.data<float>(), output.data<float>() + output.size()};
  }
  PlanOptions options() const { return options_for(x.view(), {}); }
};

/// Bytes of memory that the process holds.
std::size_t resident() {
  std::size_t total = 0, pages = 0;
  std::ifstream("/proc/self/statm") >> total >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

TEST_CASE("soak: plans made, forked, run and destroyed by eight threads") {
  const auto seconds = static_cast<int>(environment_number("GRU_TEST_SOAK_SECONDS", 3));
  const Alarm alarm(static_cast<unsigned>(seconds) * 4 + 60);
  std::vector<Prepared> jobs(kJobs.begin(), kJobs.end());
  std::vector<std::vector<float>> expected;
  for (const Prepared& job : jobs) {
    Plan<Host> plan(Host{}, job.weights, job.options());
    expected.push_back(job.run(plan));
  }
  std::atomic<bool> stop{false};
  std::atomic<std::int64_t> rounds{0}, wrong{0};
  const auto work = [&](std::size_t thread) {
    for (std::size_t i = thread; !stop; ++i) {
      const std::size_t which = i % jobs.size();
      const Prepared& job = jobs[which];
      Plan<Host> plan(Host{}, job.weights, job.options());
      wrong += job.run(plan) != expected[which] ? 1 : 0;
      Plan<Host> fork = plan.fork(Host{});
      if (i % 2 == 0) plan = std::move(fork);  // the original goes first
      Plan<Host>& rest = i % 2 == 0 ? plan : fork;
      wrong += job.run(rest) != expected[which] ? 1 : 0;
      ++rounds;
    }
  };
  std::vector<std::thread> threads;
  const auto start = Clock::now();
  for (std::size_t i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
  const auto wait_until = [&](double share) {
    std::this_thread::sleep_until(start + std::chrono::milliseconds(static_cast<int>(seconds * 1000 * share)));
  };
  wait_until(0.3);
  const std::size_t early = resident();
  const std::int64_t early_rounds = rounds;
  wait_until(1);
  const std::size_t late = resident();
  stop = true;
  for (std::thread& thread : threads) thread.join();
  MESSAGE(rounds.load(), " rounds in ", seconds, " s; ", early >> 10U, " KiB after ", early_rounds, " of them, ",
          late >> 10U, " KiB at the end");
  CHECK(wrong == 0);
  CHECK(rounds > early_rounds);
  if (!kAnySanitizer) CHECK(late < early + early / 10 + (std::size_t{4} << 20U));
}

}  // namespace
}  // namespace gru::test
