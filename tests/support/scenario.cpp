// SPDX-License-Identifier: Apache-2.0
#include "tests/support/scenario.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "gru/error.hpp"
#include "src/format.hpp"
#include "src/store_element.hpp"

namespace gru::test {
namespace {

std::int64_t states(const Config& config) { return config.num_layers * config.num_directions(); }

// Roughly normal, the same on every machine.
double draw(std::mt19937_64& engine) {
  double sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<double>(engine() >> 11U) * 0x1p-53 - 0.5;
  return 1.7 * sum;
}

std::vector<double> draw_many(std::mt19937_64& engine, std::int64_t count, DType dtype) {
  std::vector<double> values(static_cast<std::size_t>(count));
  Field rounded(dtype, {count});
  for (double& v : values) v = draw(engine);
  rounded.assign(values);
  return rounded.values();
}

// Weights of torch's initial scale times a power of two or any other factor, rounded to the dtype.
Weights make_weights(const Scenario& s, DType dtype) {
  Weights plain = Weights::random(s.config, s.seed, dtype);
  if (s.weight_scale == 1) return plain;
  auto storage = std::make_shared<std::vector<Tensor>>();
  storage->reserve(static_cast<std::size_t>(4 * states(s.config)));
  const auto scaled = [&](const ConstTensorView& view) {
    if (!view.given()) return ConstTensorView{};
    Tensor tensor = convert(view, dtype);
    const std::vector<double> values = to_vector<double>(view);
    for (std::int64_t i = 0; i < tensor.size(); ++i) {
      store_element(tensor.bytes(), dtype, i, values[static_cast<std::size_t>(i)] * s.weight_scale);
    }
    storage->push_back(std::move(tensor));
    return std::as_const(storage->back()).view();
  };
  std::vector<CellWeights> cells;
  for (std::int64_t layer = 0; layer < s.config.num_layers; ++layer) {
    for (std::int64_t d = 0; d < s.config.num_directions(); ++d) {
      const CellWeights& c = plain.cell(layer, d);
      cells.push_back({scaled(c.weight_ih), scaled(c.weight_hh), scaled(c.bias_ih), scaled(c.bias_hh)});
    }
  }
  return {s.config, std::move(cells), storage};
}

std::vector<std::int64_t> state_extents(const Scenario& s) {
  if (s.unbatched) return {states(s.config), s.config.hidden_size};
  return {states(s.config), s.batch, s.config.hidden_size};
}

// The worst element with its place, as a sentence.
std::string explain(const char* name, const Comparison& c, const Tolerance& tolerance, std::int64_t rows,
                    std::int64_t columns) {
  const auto at = static_cast<std::int64_t>(c.index);
  return fmt::format(
      "{}[{}, {}, {}]: expected {:.9g}, got {:.9g}; off by {:.3g}, allowed {:.3g}; relative L2 {:.3g}, "
      "allowed {:.3g}",
      name, at / (rows * columns), at / columns % rows, at % columns, c.expected, c.actual, c.worst, tolerance.element,
      c.relative_l2, tolerance.l2);
}

void check_tensor(const char* name, const std::vector<double>& expected, const std::vector<double>& actual,
                  const Scenario& s, std::int64_t columns, const Target& target, Tolerance tolerance) {
  const Comparison c = compare(expected, actual);
  // The bar of the product at torch's scale: stricter or not, both must hold.
  const bool finite = std::ranges::all_of(expected, [](double v) { return std::isfinite(v); });
  if (has_strict_bar(target.math) && s.weight_scale == 1 && finite) {
    tolerance.l2 = std::min(tolerance.l2, strict_l2_bar(target.dtype));
  }
  tolerance = with_smallest_values(tolerance, target.dtype, expected);
  const bool within = c.worst <= tolerance.element && (!finite || c.relative_l2 <= tolerance.l2);
  CHECK_MESSAGE(within, explain(name, c, tolerance, std::max<std::int64_t>(s.batch, 1), columns));
}

void check_untouched_inputs(const HostCall& before, const HostCall& after) {
  CHECK_MESSAGE(before.x.memory() == after.x.memory(), "x was written to");
  CHECK_MESSAGE(before.h0.memory() == after.h0.memory(), "h0 was written to");
  CHECK_MESSAGE(before.lengths.memory() == after.lengths.memory(), "lengths was written to");
}

}  // namespace

std::vector<double> swapped(const std::vector<double>& values, std::int64_t a, std::int64_t b, std::int64_t c) {
  std::vector<double> result;
  result.reserve(values.size());
  for (std::int64_t j = 0; j < b; ++j) {
    for (std::int64_t i = 0; i < a; ++i) {
      const auto row = values.begin() + (i * b + j) * c;
      result.insert(result.end(), row, row + c);
    }
  }
  return result;
}

std::vector<std::int64_t> sequence_extents(const Scenario& s, std::int64_t features) {
  if (s.unbatched) return {s.steps, features};
  if (s.batch_first) return {s.batch, s.steps, features};
  return {s.steps, s.batch, features};
}

std::string describe(const Scenario& s) {
  std::string text = fmt::format("{} T={} B={} plan T={} B={} seed={} scale={:.3g}", describe(s.config), s.steps,
                                 s.batch, s.steps + s.spare_steps, s.batch + s.spare_batch, s.seed, s.weight_scale);
  if (s.batch_first) text += " batch_first";
  if (s.unbatched) text += " unbatched";
  if (s.reserve_sms > 0) text += fmt::format(" reserve_sms={}", s.reserve_sms);
  if (s.lengths) text += fmt::format(" lengths {}", name_of(s.lengths_dtype));
  text += fmt::format("; x {}", describe(s.x_layout));
  if (s.h0) text += fmt::format("; h0 {}", describe(s.h0_layout));
  if (s.output) text += fmt::format("; output {}", describe(s.output_layout));
  if (s.h_n) text += fmt::format("; h_n {}", describe(s.h_n_layout));
  return text;
}

Scenario random_scenario(std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  const auto one_of = [&](std::initializer_list<std::int64_t> values) {
    return values.begin()[engine() % values.size()];
  };
  const auto chance = [&](unsigned in) { return engine() % in == 0; };
  Scenario s;
  s.seed = seed;
  s.config = {.input_size = one_of({1, 2, 3, 5, 8, 13, 16, 24, 33, 40}),
              .hidden_size = one_of({1, 2, 3, 5, 7, 8, 12, 16, 17, 24, 31, 32, 33, 48, 65}),
              .num_layers = one_of({1, 1, 2, 3}),
              .bias = !chance(4),
              .bidirectional = chance(2),
              .reset_after = !chance(4)};
  s.steps = one_of({1, 2, 3, 4, 7, 12, 19});
  s.batch = one_of({1, 1, 2, 3, 4, 5, 8, 9, 16, 17});
  s.spare_steps = chance(3) ? one_of({1, 5, 40}) : 0;
  s.spare_batch = chance(3) ? one_of({1, 7, 30}) : 0;
  s.unbatched = chance(8);
  if (s.unbatched) s.batch = 1;
  s.batch_first = chance(2);
  s.h0 = chance(2);
  s.lengths = !s.unbatched && chance(3);
  s.lengths_dtype = chance(2) ? DType::int32 : DType::int64;
  s.output = !chance(5);
  s.h_n = !chance(5);
  s.weight_scale = chance(3) ? 0.25 + 0.125 * static_cast<double>(engine() % 10) : 1;
  if (chance(2)) {
    for (Layout* layout : {&s.x_layout, &s.h0_layout, &s.output_layout, &s.h_n_layout}) *layout = random_layout(engine);
  }
  return s;
}

Data make_data(const Scenario& s, DType dtype) {
  std::mt19937_64 engine(s.seed + 1);
  Data data{make_weights(s, dtype), {}, {}, {}};
  data.x = draw_many(engine, s.steps * s.batch * s.config.input_size, dtype);
  if (s.h0) data.h0 = draw_many(engine, states(s.config) * s.batch * s.config.hidden_size, dtype);
  data.lengths.assign(static_cast<std::size_t>(s.batch), s.steps);
  if (!s.lengths) return data;
  for (std::size_t b = 0; b < data.lengths.size(); ++b) {
    data.lengths[b] = s.given_lengths.empty()
                          ? static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(s.steps + 1))
                          : s.given_lengths.at(b);
    for (std::int64_t t = data.lengths[b]; t < s.steps; ++t) {
      const auto row = data.x.begin() + (t * s.batch + static_cast<std::int64_t>(b)) * s.config.input_size;
      std::fill(row, row + s.config.input_size, std::numeric_limits<double>::quiet_NaN());
    }
  }
  return data;
}

Expected expect(const Scenario& s, const Data& data, const std::optional<Condition>& known) {
  const std::int64_t width = s.config.num_directions() * s.config.hidden_size;
  Scenario plain;  // the same problem without anything that a backend could get wrong before it computes
  plain.config = s.config;
  plain.steps = s.steps;
  plain.batch = s.batch;
  plain.h0 = s.h0;
  plain.lengths = s.lengths;
  HostCall call;
  const auto run = [&](const Weights& weights, const std::vector<double>& x, const std::vector<double>& h0) {
    call = make_call(plain, {weights, x, h0, data.lengths}, DType::float64);
    const auto session = oracle().plan(weights, plan_options(plain));
    session->load(call);
    session->execute();
    session->fetch(call);
    std::vector<double> results = call.output.values();
    const std::vector<double> h_n = call.h_n.values();
    results.insert(results.end(), h_n.begin(), h_n.end());
    return results;
  };
  Expected expected;
  const std::vector<double> results = run(data.weights, data.x, data.h0);
  const auto middle = results.begin() + s.steps * s.batch * width;
  expected.output.assign(results.begin(), middle);
  expected.h_n.assign(middle, results.end());
  expected.condition = known ? *known : measure_condition(run, data.weights, data.x, data.h0, results);
  return expected;
}

HostCall make_call(const Scenario& s, const Data& data, DType dtype) {
  const std::int64_t width = s.config.num_directions() * s.config.hidden_size;
  const bool swap = s.batch_first && !s.unbatched;
  HostCall call;
  call.x = Field(dtype, sequence_extents(s, s.config.input_size), s.x_layout);
  call.x.assign(swap ? swapped(data.x, s.steps, s.batch, s.config.input_size) : data.x);
  if (s.h0) {
    call.h0 = Field(dtype, state_extents(s), s.h0_layout);
    call.h0.assign(data.h0);
  }
  if (s.lengths) {
    call.lengths = Field(s.lengths_dtype, {s.batch});
    call.lengths.assign({data.lengths.begin(), data.lengths.end()});
  }
  if (s.output) call.output = Field(dtype, sequence_extents(s, width), s.output_layout);
  if (s.h_n) call.h_n = Field(dtype, state_extents(s), s.h_n_layout);
  return call;
}

PlanOptions plan_options(const Scenario& s) {
  PlanOptions options;
  options.batch_size = s.batch + s.spare_batch;
  options.seq_len = s.steps + s.spare_steps;
  options.batch_first = s.batch_first;
  options.reserve_sms = s.reserve_sms;
  options.device_profile = s.device_profile;
  options.arrangement = s.arrangement;
  return options;
}

void check_results(const Scenario& s, const Target& target, const Data& data, const Expected& expected,
                   const HostCall& before, const HostCall& after) {
  const std::int64_t width = s.config.num_directions() * s.config.hidden_size;
  PlanOptions options = plan_options(s);
  options.dtype = target.dtype;
  options.math = target.math;
  double largest_state = 1;
  for (const double h : data.h0)
    largest_state = std::isfinite(h) ? std::max(largest_state, std::abs(h)) : largest_state;
  const Tolerance allowed = tolerance({s.config, options, {}}, s.steps, expected.condition, largest_state);
  if (after.output.given()) {
    std::vector<double> actual = after.output.values();
    if (s.batch_first && !s.unbatched) actual = swapped(actual, s.batch, s.steps, width);
    check_tensor("output", expected.output, actual, s, width, target, allowed);
    bool zeros = true;
    for (std::size_t i = 0; i < actual.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i) / width;
      const bool ended = row / s.batch >= data.lengths[static_cast<std::size_t>(row % s.batch)];
      zeros = zeros && (!ended || actual[i] == 0);
    }
    CHECK_MESSAGE(zeros, "output is not 0 after a row's end");
    CHECK_MESSAGE(after.output.surroundings_untouched(), "memory beside output was written to");
  }
  if (after.h_n.given()) {
    check_tensor("h_n", expected.h_n, after.h_n.values(), s, s.config.hidden_size, target, allowed);
    CHECK_MESSAGE(after.h_n.surroundings_untouched(), "memory beside h_n was written to");
  }
  check_untouched_inputs(before, after);
}

namespace {

using Wanted = bool (*)(const Target&);

void run_on(Wanted wanted, const Scenario& s, Tally& tally) {
  CAPTURE(describe(s));
  std::optional<Condition>
      condition;  // of float32's data: those of 16 bits differ little, and measuring costs four runs
  for (const DType dtype : {DType::float32, DType::float64, DType::float16, DType::bfloat16}) {
    if (std::ranges::none_of(targets(), [&](const Target& t) { return t.dtype == dtype && wanted(t); })) continue;
    const Data data = make_data(s, dtype);
    const Expected expected = expect(s, data, has_16_bits(dtype) ? condition : std::nullopt);
    if (dtype == DType::float32) condition = expected.condition;
    for (const Target& target : targets()) {
      if (target.dtype != dtype || !wanted(target)) continue;
      CAPTURE(target.name());
      if (const Support support = target.supports(s.config, plan_options(s)); !support) {
        CHECK_MESSAGE(support.reason.size() > 15, "a refusal gives its reason in words or numbers");
        CHECK_THROWS_AS(target.plan(data.weights, plan_options(s)), Error);
        tally.refused.push_back(target.name() + ": " + support.reason);
        continue;
      }
      const HostCall before = make_call(s, data, dtype);
      HostCall after = before;
      const auto session = target.plan(data.weights, plan_options(s));
      session->load(before);
      session->execute();
      session->fetch(after);
      CHECK(session->status().ok);
      check_results(s, target, data, expected, before, after);
      ++tally.ran;
    }
  }
}

}  // namespace

void run_everywhere(const Scenario& scenario, Tally& tally) {
  run_on([](const Target&) { return true; }, scenario, tally);
}

void run_everywhere(const Scenario& scenario) {
  Tally tally;
  run_everywhere(scenario, tally);
  CHECK(tally.ran > 0);
}

void run_on_devices(const Scenario& scenario) {
  const Wanted device = [](const Target& t) { return !t.is_host; };
  if (std::ranges::none_of(targets(), device)) return;  // targets() has said so
  Tally tally;
  run_on(device, scenario, tally);
  CHECK(tally.ran > 0);
}

void run_kernels_of_16_bits(const Scenario& scenario) {
  const Wanted wanted = [](const Target& t) {
    return !t.is_host && t.dtype == DType::float32 && (t.math == Math::fp16 || t.math == Math::bf16) &&
           t.backend != "cuda-dense-step" && t.backend != "cuda-per-step";
  };
  if (std::ranges::none_of(targets(), wanted)) return;
  Tally tally;
  run_on(wanted, scenario, tally);
  CHECK(tally.ran > 0);
}

void run_on_tiles(const Scenario& scenario) {
  const Wanted plain = [](const Target& t) {
    return t.backend == "cuda-tiles" && t.dtype == DType::float32 && t.math != Math::tf32x3;
  };
  const Wanted in_parts = [](const Target& t) { return t.backend == "cuda-tiles" && t.math == Math::tf32x3; };
  // The backend's own choice has no name; tf32x3 has no tile of 64 units for 128 rows.
  for (const auto& [wanted, others] : {std::pair{plain, 3}, std::pair{in_parts, 2}}) {
    if (std::ranges::none_of(targets(), wanted)) continue;
    Tally own;
    run_on(wanted, scenario, own);
    if (own.ran == 0) continue;  // another device
    Tally named;
    for (const char* tile : {"128x64", "128x32", "64x32", "64x16"}) {
      Scenario s = scenario;
      s.arrangement = tile;
      run_on(wanted, s, named);
    }
    CHECK(named.ran == others * own.ran);
  }
}

}  // namespace gru::test
