// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "src/format.hpp"
#include "tests/support/scenario.hpp"

// Rule 5 of the house on the host's heap: execute and step call no operator new. Its own executable, without
// Kokkos-Tools callbacks (with them Kokkos itself makes strings of labels).

namespace {

std::atomic<bool> armed{false};
std::atomic<int> allocations{0};

void* counted(std::size_t bytes, std::size_t alignment) {
  if (armed) ++allocations;
  void* memory = alignment == 0 ? std::malloc(bytes == 0 ? 1 : bytes)
                                : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes, 0); }
void* operator new[](std::size_t bytes) { return counted(bytes, 0); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace gru::test {
namespace {

template <class Work>
int count_allocations(const Work& work) {
  allocations = 0;
  armed = true;
  work();
  armed = false;
  return allocations;
}

TEST_CASE("allocation: the counter counts") {
  CHECK(count_allocations([] { ::operator delete(::operator new(10)); }) == 1);
  CHECK(count_allocations([] {}) == 0);
}

TEST_CASE("allocation: execute and step call no operator new, not even the first time") {
  Scenario small;
  small.h0 = true;
  Scenario large;
  large.config = {.input_size = 64, .hidden_size = 128, .num_layers = 2, .bidirectional = true};
  large.steps = 20;
  large.batch = 16;
  large.lengths = true;
  large.h0 = true;
  Scenario before = large;
  before.config.reset_after = false;
  before.batch_first = true;
  for (const Scenario& s : {small, large, before}) {
    CAPTURE(describe(s));
    for (const Target& target : targets()) {
      if (target.is_oracle() || !target.supports(s.config, plan_options(s))) continue;
      CAPTURE(target.name());
      const Data data = make_data(s, target.dtype);
      const auto session = target.plan(data.weights, plan_options(s));
      session->load(make_call(s, data, target.dtype));
      for (int i = 0; i < 3; ++i) CHECK(count_allocations([&] { session->execute(); }) == 0);
      if (s.config.bidirectional) continue;
      HostCall step = make_call(s, data, target.dtype);
      step.x = Field(target.dtype, {s.batch, s.config.input_size});
      step.x.assign(std::vector<double>(static_cast<std::size_t>(s.batch * s.config.input_size), 0.5));
      session->load(step);
      for (int i = 0; i < 3; ++i) CHECK(count_allocations([&] { session->step(); }) == 0);
    }
  }
}

}  // namespace
}  // namespace gru::test
