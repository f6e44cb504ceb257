// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "gru/error.hpp"
#include "tests/conformance/sized.hpp"
#include "tests/support/scenario.hpp"

// Sizes at the borders of what the persistent kernels hold: units of a block, columns of a lane, blocks of a group,
// sequences of a stream, streams of a group; teams of a block and their sequences. On every device's targets: other
// backends have borders of their own, in the other tests.

namespace gru::test {
namespace {

Scenario sized(std::int64_t hidden, std::int64_t batch, std::int64_t layers = 1, bool bidirectional = false) {
  return sized_scenario(6, hidden, batch, layers, bidirectional);
}

TEST_CASE("persistent: small: units around the sizes of teams") {
  for (const std::int64_t hidden : {1, 2, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 127, 128, 129}) {
    for (const std::int64_t batch : {1, 3}) run_on_devices(sized(hidden, batch));
  }
}

TEST_CASE("persistent: small: batches around sequences, teams and blocks") {
  for (const std::int64_t hidden : {5, 32, 40, 100}) {
    for (const std::int64_t batch : {1, 2, 4, 5, 31, 33, 265, 1057, 4097})
      run_on_devices(sized(hidden, batch, 1, batch == 265));
  }
}

TEST_CASE("persistent: small: inputs around what lanes hold") {
  for (const std::int64_t hidden : {20, 32, 50, 64, 90}) {
    for (const std::int64_t inputs : {1, 15, 16, 17, 33, 64, 80}) {
      for (const std::int64_t batch : {2, 1100}) {
        Scenario s = sized(hidden, batch);
        s.config.input_size = inputs;
        s.steps = batch == 2 ? 30 : 3;  // more than the ring of inputs holds, and fewer
        run_on_devices(s);
      }
    }
  }
}

TEST_CASE("persistent: small: stacks, directions and single steps") {
  for (const std::int64_t hidden : {7, 32, 33, 64, 128}) {
    for (const std::int64_t steps : {1, 2, 9, 17}) {
      for (const bool bidirectional : {false, true}) {
        Scenario s = sized(hidden, 6, 3, bidirectional);
        s.steps = steps;
        s.h0 = steps % 2 == 0;
        run_on_devices(s);
      }
    }
  }
}

// Many teams take rows in the order of their lengths: a row's bits must not follow from its place.
TEST_CASE("persistent: small: a row has the same bits at any place of the batch") {
  for (const std::int64_t hidden : {11, 32, 64}) {
    for (const std::int64_t inputs : {7, 80}) {
      Scenario s = sized(hidden, 1100, 1, hidden == 32);
      s.config.input_size = inputs;
      s.steps = 12;
      for (const Target& target : targets()) {
        if (target.is_host || !target.supports(s.config, plan_options(s))) continue;
        CAPTURE(target.name());
        const Data data = make_data(s, target.dtype);
        // The same rows from last to first.
        Data turned = data;
        const auto turn = [&](std::vector<double>& values, std::int64_t times) {
          const auto width = static_cast<std::int64_t>(values.size()) / (times * s.batch);
          const std::vector<double> from = values;
          for (std::int64_t t = 0; t < times; ++t) {
            for (std::int64_t b = 0; b < s.batch; ++b) {
              for (std::int64_t k = 0; k < width; ++k) {
                values[static_cast<std::size_t>((t * s.batch + b) * width + k)] =
                    from[static_cast<std::size_t>((t * s.batch + s.batch - 1 - b) * width + k)];
              }
            }
          }
        };
        const std::int64_t cells = s.config.num_layers * s.config.num_directions();
        turn(turned.x, s.steps);
        turn(turned.h0, cells);
        std::ranges::reverse(turned.lengths);
        const auto session = target.plan(data.weights, plan_options(s));
        const auto run = [&](const Data& of) {
          HostCall call = make_call(s, of, target.dtype);
          session->load(call);
          session->execute();
          session->fetch(call);
          return call;
        };
        const HostCall one = run(data), other = run(turned);
        std::vector<double> output = other.output.values(), h_n = other.h_n.values();
        turn(output, s.steps);
        turn(h_n, cells);
        CHECK(output == one.output.values());
        CHECK(h_n == one.h_n.values());
      }
    }
  }
}

// A tanh from an exponential is off by 1e-7 whatever its value: all of it, where the values are as small.
TEST_CASE("persistent: values near 0 keep their relative accuracy") {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    for (const std::int64_t hidden : {31, 200}) {
      Scenario s;
      s.config = {.input_size = 1, .hidden_size = hidden, .num_layers = 3, .bias = false, .bidirectional = true};
      s.steps = hidden == 31 ? 3 : 4;
      s.weight_scale = 0.25;
      s.seed = seed;
      run_on_devices(s);
    }
  }
}

TEST_CASE("persistent: units around blocks and groups") {
  for (const std::int64_t hidden : {31, 32, 33, 64, 100, 255, 256, 257, 300, 512, 513, 1000, 1024, 1025}) {
    run_on_devices(sized(hidden, 1));
    run_on_devices(sized(hidden, 2));
  }
}

TEST_CASE("persistent: weights that exceed the registers: from 1025 units on") {
  run_on_devices(sized(1025, 1));
  run_on_devices(sized(1040, 5));
  run_on_devices(sized(1030, 3, 2, true));
  run_on_devices(sized(1536, 1));
}

TEST_CASE("persistent: weights that exceed the registers: up to 2048 units") {
  run_on_devices(sized(1537, 2));
  run_on_devices(sized(2048, 1));
}

TEST_CASE("persistent: batches around streams and groups") {
  for (const std::int64_t batch : {1, 2, 3, 4, 5, 12, 13, 31, 32, 33, 65}) run_on_devices(sized(140, batch));
  for (const std::int64_t batch : {3, 7, 8, 9, 17, 40}) run_on_devices(sized(200, batch, 1, true));
  for (const std::int64_t batch : {3, 8, 17, 33}) run_on_devices(sized(320, batch));
}

TEST_CASE("persistent: all layers at once") {
  for (const std::int64_t layers : {2, 3, 6}) {
    for (const std::int64_t batch : {1, 3, 10}) {
      run_on_devices(sized(133, batch, layers));
      run_on_devices(sized(256, batch, layers));
    }
  }
  run_on_devices(sized(500, 1, 3));
  run_on_devices(sized(500, 2, 2));
}

TEST_CASE("persistent: both directions of a stack") {
  run_on_devices(sized(256, 10, 3, true));
  run_on_devices(sized(512, 3, 2, true));
}

// Rows around the tiles of the projection beside the recurrence, steps around its slices; units that fill them or not.
TEST_CASE("persistent: the next layer's inputs projected meanwhile") {
  for (const std::int64_t hidden : {144, 240, 256}) {
    for (const std::int64_t steps : {4, 85, 86, 171}) {
      Scenario s = sized(hidden, 3, 3, true);
      s.steps = steps;
      run_on_devices(s);
    }
    for (const std::int64_t batch : {1, 2, 10, 33}) {
      Scenario s = sized(hidden, batch, 2, true);
      s.steps = 60;
      s.h0 = batch != 2;
      s.config.bias = batch != 10;
      run_on_devices(s);
    }
  }
}

// With fewer multiprocessors more sequences share a group, other tiles are chosen, or the plan goes to another backend.
TEST_CASE("persistent: multiprocessors left to other work") {
  for (const int reserved : {1, 20, 60, 90, 110}) {
    for (const std::int64_t hidden : {200, 256, 400}) {
      Scenario s = sized(hidden, 10, 2, hidden == 200);
      s.reserve_sms = reserved;
      run_on_devices(s);
    }
  }
}

TEST_CASE("persistent: long enough for every epoch and parity to come round") {
  Scenario s = sized(170, 3, 2);
  s.steps = 300;
  run_on_devices(s);
  s.config.bidirectional = true;
  run_on_devices(s);
}

// With a limit of one poll the first wait that is not over at once gives up: every block runs to its end all the same, the
// plan says so, the next execution is refused once, and the one after it is accepted again. Through L2 (as on a device
// without clusters) that first wait can't be over: nothing has been sent yet. In a cluster the poll itself may last as long
// as the exchange, so there it may come to nothing.
TEST_CASE("persistent: a wait that outlasts its limit is reported, not hung") {
  const Scenario scenarios[] = {sized(200, 4, 3), sized(200, 4, 2, true), sized(240, 4, 3, true), sized(400, 2),
                                sized(600, 2),    sized(500, 1, 3),       sized(500, 2, 2)};
  for (const Target& target : targets()) {
    if (target.backend != "cuda-persistent") continue;
    CAPTURE(target.name());
    for (Scenario s : scenarios) {
      for (const char* profile : {"rtx4090", ""}) {
        CAPTURE(describe(s));
        CAPTURE(profile);
        s.steps = 50;
        PlanOptions options = plan_options(s);
        options.spin_limit = 1;
        options.device_profile = profile;
        if (!target.supports(s.config, options)) continue;
        const Data data = make_data(s, target.dtype);
        const auto session = target.plan(data.weights, options);
        HostCall call = make_call(s, data, target.dtype);
        session->load(call);
        for (int attempt = 0; attempt < 20; ++attempt) {  // who gives up first differs from run to run
          session->execute();
          session->fetch(call);
          const Status status = session->status();
          if (*profile == '\0' && status.ok) continue;
          REQUIRE_FALSE(status.ok);
          CHECK(status.message.find("gave up") != std::string::npos);
          CHECK_THROWS_WITH_AS(session->execute(), doctest::Contains("gave up"), Error);
          CHECK(session->status().ok);
        }
      }
    }
  }
}

}  // namespace
}  // namespace gru::test
