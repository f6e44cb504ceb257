// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "bench/measure/clock.hpp"
#include "gru/gru.hpp"

// The bench library's clock of a CUDA stream: the device's time between two events.

namespace gru::bench {
namespace {

constexpr double kNap = 0.02;  // seconds

void nap(void*) { std::this_thread::sleep_for(std::chrono::duration<double>(kNap)); }

TEST_CASE("timer: what waits in a CUDA stream counts, and next to nothing where nothing does") {
  if (!SpaceTraits<CudaStream>::available()) {
    std::puts("skipped: no CUDA device");
    return;
  }
  const CudaStream space = CudaStream::create();
  EventTimer timer(space);
  const double waited =
      timer.seconds([&] { REQUIRE(cudaLaunchHostFunc(space.stream(), &nap, nullptr) == cudaSuccess); });
  CHECK(waited >= kNap);
  const double nothing = timer.seconds([] {});
  CHECK(nothing >= 0);
  CHECK(nothing < kNap / 2);
}

}  // namespace
}  // namespace gru::bench
