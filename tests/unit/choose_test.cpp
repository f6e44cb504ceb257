// SPDX-License-Identifier: Apache-2.0
#include "backends/choose.hpp"

#include <doctest/doctest.h>

#include <new>
#include <string>
#include <vector>

#include "backends/any_plan_impl.hpp"
#include "gru/gru.hpp"

// The choice itself, with backends that exist for it: what is asked how often, and what a device's no leads to.

namespace {

using Host = Kokkos::DefaultHostExecutionSpace;

/// What happened, in order: "first decides", "first made with 7".
std::vector<std::string>& log() {
  static std::vector<std::string> lines;
  return lines;
}

enum class Manner { willing, unwilling, refused_by_device, out_of_memory, broken };

/// A backend that behaves in the given manner and logs.
template <char Name, Manner M>
class Fake {
 public:
  using Space = Host;
  static constexpr char kName[] = {Name, '\0'};
  static constexpr std::string_view name{kName};

  static gru::Decision<int> decide(const gru::Problem& problem) {
    log().push_back(std::string(name) + " decides");
    if (M == Manner::unwilling) return gru::Decision<int>::no("it does not want to");
    return gru::Decision<int>::yes(static_cast<int>(problem.options.seq_len), "gladly");
  }
  Fake(const Host&, const gru::Problem&, const gru::Decision<int>& decision, const gru::Weights&) {
    log().push_back(std::string(name) + " made with " + std::to_string(*decision.schedule));
    if (M == Manner::refused_by_device) throw gru::DeviceRefusal("its 12 blocks are not there now");
    if (M == Manner::out_of_memory) throw std::bad_alloc();
    if (M == Manner::broken) throw gru::Error("it is broken");
  }
  void execute(const gru::Call&) { log().push_back(std::string(name) + " executes"); }
  Fake fork(const Host&) const { return *this; }
  std::size_t workspace_bytes() const { return 0; }
  gru::Status status() const { return {}; }
};

template <class... Bs>
std::vector<gru::Seat> seats() {
  log().clear();
  return {gru::seat_at(std::make_shared<gru::SpaceInstance<Host>>(Host{}), gru::candidates_of(gru::list<Bs...>{}))};
}

gru::Weights weights() { return gru::Weights::random({.input_size = 3, .hidden_size = 4}, 1); }

using A = Fake<'a', Manner::willing>;
using B = Fake<'b', Manner::willing>;
using No = Fake<'n', Manner::unwilling>;
using Full = Fake<'f', Manner::refused_by_device>;
using Huge = Fake<'h', Manner::out_of_memory>;
using Broken = Fake<'x', Manner::broken>;
using Log = std::vector<std::string>;

TEST_CASE("choose: each backend decides once, and is constructed from that decision") {
  const gru::Choice choice = gru::choose(seats<No, A, B>(), weights(), {.seq_len = 7});
  CHECK(choice.name == "a");
  CHECK(choice.why == "n: no, it does not want to; a: first to accept: gladly; b: not asked, as a comes first");
  CHECK(log() == Log{"n decides", "a decides", "a made with 7"});
}

TEST_CASE(
    "choose: where the device says no after the decision, the next candidate is asked, and why tells the reason") {
  const gru::Choice choice = gru::choose(seats<Full, No, A>(), weights(), {.seq_len = 5});
  CHECK(choice.name == "a");
  CHECK(choice.why.starts_with("f: no, its 12 blocks are not there now; n: no, it does not want to; a: first"));
  CHECK(log() == Log{"f decides", "f made with 5", "n decides", "a decides", "a made with 5"});
}

TEST_CASE("choose: a named backend that the device refuses is an error with the reason, and nobody takes its place") {
  gru::PlanOptions options;
  options.backend = "f";
  const auto only_full = seats<Full, A>();
  CHECK_THROWS_WITH_AS(gru::choose(only_full, weights(), options),
                       doctest::Contains("f: no, its 12 blocks are not there now; a: not asked, as f was named"),
                       gru::Error);
  CHECK(log() == Log{"f decides", "f made with 1"});
}

TEST_CASE("choose: other failures end the plan") {
  CHECK_THROWS_WITH_AS(gru::choose(seats<Broken, A>(), weights(), {}), "it is broken", gru::Error);
  CHECK(log() == Log{"x decides", "x made with 1"});
  CHECK_THROWS_WITH_AS(gru::choose(seats<Huge, A>(), weights(), {}), doctest::Contains("could not be made ready"),
                       gru::Error);
}

TEST_CASE("choose: several spaces are asked in order, and a name may be a space's") {
  std::vector<gru::Seat> both = seats<Full, No>();
  both.push_back(seats<B>().front());
  const gru::Choice choice = gru::choose(both, weights(), {});
  CHECK(choice.name == "b");
  CHECK(choice.why.find("kokkos/f: no, its 12 blocks") != std::string::npos);
  gru::PlanOptions options;
  options.backend = "kokkos";
  CHECK(gru::choose(both, weights(), options).name == "b");
  options.backend = "turbo";
  CHECK_THROWS_WITH_AS(gru::choose(both, weights(), options), doctest::Contains("space kokkos: f, n; space kokkos: b"),
                       gru::Error);
}

TEST_CASE("choose: a plan executes on the backend that was chosen") {
  gru::AnyPlan plan = gru::plan_with(seats<Full, B>(), weights(), {});
  const float x[3] = {};
  plan.execute({.x = gru::tensor_view(&x[0], {1, 1, 3})});
  CHECK(log().back() == "b executes");
}

}  // namespace
