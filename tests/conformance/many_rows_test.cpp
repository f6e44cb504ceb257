// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/support/scenario.hpp"

// Batches that fill tiles, in few steps: kernels for a whole step choose their tile by the rows and units. Rows and units beside a
// tile's, inputs that are no multiple of a slice, rows that are not aligned, a layer above, an end before the first step.

namespace gru::test {
namespace {

Scenario rows(std::int64_t hidden, std::int64_t inputs, std::int64_t batch, std::int64_t steps = 1) {
  Scenario s;
  s.config = {.input_size = inputs, .hidden_size = hidden};
  s.steps = steps;
  s.batch = batch;
  s.h0 = true;
  s.seed = static_cast<std::uint64_t>(hidden * 10000 + batch);
  return s;
}

TEST_CASE("many rows: single steps around tiles of rows and units") {
  run_on_devices(rows(512, 512, 256));
  run_on_devices(rows(500, 388, 250));
  run_on_devices(rows(128, 128, 1000));
  run_on_devices(rows(132, 96, 4097));
  run_on_devices(rows(256, 100, 1030));
}

TEST_CASE("many rows: single steps without h0, with ends, in a stack, off alignment") {
  Scenario s = rows(132, 128, 1030);
  s.h0 = false;
  run_on_devices(s);
  s.h0 = true;
  s.lengths = true;
  run_on_devices(s);
  s.config.num_layers = 2;
  run_on_devices(s);
  s.x_layout.backward = {false, true, false};
  run_on_devices(s);
  s.config.input_size = 67;
  s.x_layout.pad = {0, 0, 1};
  run_on_devices(s);
}

TEST_CASE("many rows: a few steps") {
  Scenario s = rows(160, 64, 520, 3);
  run_on_devices(s);
  s.lengths = true;
  s.config.bidirectional = true;
  run_on_devices(s);
}

TEST_CASE("many rows: ends of rows in a stack, in both directions, from the first step on, off alignment") {
  Scenario s = rows(96, 40, 300, 9);
  s.lengths = true;
  s.config.num_layers = 2;
  run_on_devices(s);
  s.config.bidirectional = true;
  s.h0 = false;
  run_on_devices(s);
  s.config.input_size = 67;
  s.x_layout.pad = {0, 0, 1};
  s.given_lengths.assign(300, 0);
  s.given_lengths[17] = 9;
  s.given_lengths[250] = 1;
  run_on_devices(s);
}

// Rows may come in the order of their lengths, and fewer of them to a thread: a row's bits must not follow from that.
TEST_CASE("many rows: a row has the same bits beside rows that end early") {
  Scenario s = rows(96, 64, 600, 7);
  for (const Target& target : targets()) {
    if (target.is_host || !target.supports(s.config, plan_options(s))) continue;
    CAPTURE(target.name());
    const auto run = [&](const Scenario& of, const Data& data, Session& session) {
      HostCall call = make_call(of, data, target.dtype);
      session.load(call);
      session.execute();
      session.fetch(call);
      return call.output.values();
    };
    Scenario ends = s;
    ends.lengths = true;
    const Data with = make_data(ends, target.dtype);
    Data without = with;
    without.lengths.assign(600, s.steps);
    const auto session = target.plan(with.weights, plan_options(s));
    const std::vector<double> some = run(ends, with, *session), all = run(s, without, *session);
    std::size_t differ = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i) / s.config.hidden_size;
      if (row / s.batch < with.lengths[static_cast<std::size_t>(row % s.batch)] && some[i] != all[i]) ++differ;
    }
    CHECK(differ == 0);
  }
}

// Inputs projected for those rows alone that have not ended, quads and pairs of rows, padding between layers; wide tiles are in
// cuda_tests' plan sizes.
TEST_CASE("many rows: ends of rows where inputs are projected beforehand") {
  Scenario s = rows(130, 67, 130, 8);
  s.lengths = true;
  s.config.num_layers = 2;
  s.config.bidirectional = true;
  run_on_devices(s);
  s.h0 = false;
  s.x_layout.pad = {0, 0, 1};
  for (const std::int64_t lived : {1, 8}) {  // one row of one step; all of all steps
    s.given_lengths.assign(130, lived == 8 ? 8 : 0);
    s.given_lengths[17] = lived;
    run_on_devices(s);
  }
}

// A row may be computed beside fewer rows as time goes on: its bits must not follow from how many.
TEST_CASE("many rows: a row has the same bits whatever the other rows' lengths") {
  Scenario s = rows(192, 96, 400, 11);
  s.lengths = true;
  for (const Target& target : targets()) {
    if (target.is_host || !target.supports(s.config, plan_options(s))) continue;
    CAPTURE(target.name());
    const Data some = make_data(s, target.dtype);
    Data all = some;
    all.lengths.assign(400, s.steps);
    const auto session = target.plan(some.weights, plan_options(s));
    const auto run = [&](const Data& data) {
      HostCall call = make_call(s, data, target.dtype);
      session->load(call);
      session->execute();
      session->fetch(call);
      return call.output.values();
    };
    const std::vector<double> with = run(some), whole = run(all);
    std::size_t differ = 0;
    for (std::size_t i = 0; i < whole.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i) / s.config.hidden_size;
      if (row / s.batch < some.lengths[static_cast<std::size_t>(row % s.batch)] && with[i] != whole[i]) ++differ;
    }
    CHECK(differ == 0);
  }
}

}  // namespace
}  // namespace gru::test
