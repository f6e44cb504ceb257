// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "gru/gru.hpp"
#include "src/format.hpp"
#include "tests/support/cuda.hpp"

// Calls of any T and B up to a plan's maxima, on plans that hold several engines for them.

namespace gru {
namespace {

using Space = CudaStream;

struct Planned {
  Config config;
  std::int64_t steps, batch;
  Math math = Math::strict;
};

/// Slices and groups of blocks below a launch a step, products, rows that end, single blocks.
const std::vector<Planned>& plans() {
  static const std::vector<Planned> all = {
      {{.input_size = 40, .hidden_size = 256, .num_layers = 2, .bidirectional = true}, 24, 40},
      {{.input_size = 512, .hidden_size = 512}, 12, 300},
      {{.input_size = 512, .hidden_size = 512}, 12, 300, Math::tf32},
      {{.input_size = 200, .hidden_size = 192, .num_layers = 2}, 9, 700, Math::tf32},
      {{.input_size = 100, .hidden_size = 768}, 10, 128},
      {{.input_size = 16, .hidden_size = 32}, 9, 2500},
      {{.input_size = 20, .hidden_size = 150, .num_layers = 2}, 10, 90},
      {{.input_size = 40, .hidden_size = 700, .num_layers = 2, .bidirectional = true}, 9, 600},
      {{.input_size = 300, .hidden_size = 100, .bidirectional = true}, 3, 65},
  };
  return all;
}

struct Inputs {
  Tensor x, h0, lengths;
};

Inputs inputs_of(const Config& c, std::int64_t steps, std::int64_t batch, unsigned seed) {
  Inputs made{random_tensor({steps, batch, c.input_size}, seed),
              random_tensor({c.num_layers * c.num_directions(), batch, c.hidden_size}, seed + 1),
              Tensor(DType::int32, {batch})};
  for (std::int64_t b = 0; b < batch; ++b) {
    made.lengths.data<std::int32_t>()[b] = static_cast<std::int32_t>(b * 7 % (steps + 1));
  }
  return made;
}

Tensor executed(Plan<Space>& plan, const Space& space, const Inputs& in, bool lengths, DType dtype) {
  const Config& c = plan.problem().config;
  const std::int64_t steps = in.x.extents()[0], batch = in.x.extents()[1];
  const Buffer<Space> x(space, convert(in.x.view(), dtype)), h0(space, convert(in.h0.view(), dtype)),
      ends(space, in.lengths);
  Buffer<Space> output(space, dtype, {steps, batch, c.num_directions() * c.hidden_size});
  Call call{.x = x.view(), .h0 = h0.view(), .lengths = {}, .output = output.view(), .h_n = {}};
  if (lengths) call.lengths = ends.view();
  plan.execute(call);
  return output.to_host();
}

double error_of(const Tensor& got, const Tensor& right) {
  const std::vector<double> a = to_vector<double>(got.view()), b = to_vector<double>(right.view());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : difference;
}

TEST_CASE("cuda plan sizes: calls of every size up to the plan's are right, in any order, with lengths and without") {
  if (!SpaceTraits<Space>::available()) {
    std::puts("skipped: no CUDA device");
    return;
  }
  for (const Planned& p : plans()) {
    const Space space = Space::create();
    const Weights weights = Weights::random(p.config, 5);
    PlanOptions options;
    options.seq_len = p.steps;
    options.batch_size = p.batch;
    options.math = p.math;
    Plan<Space> plan(space, weights, options);
    Plan<Space> fork = plan.fork(space);
    options.math = Math::strict;
    options.dtype = DType::float64;
    Plan<Space> exact(space, weights, options);
    CAPTURE(plan.why());
    unsigned seed = 1;
    for (const std::int64_t batch :
         {std::int64_t{1}, p.batch, p.batch / 4, std::int64_t{3}, p.batch / 2 + 1, p.batch - 1}) {
      for (const std::int64_t steps : {p.steps, std::int64_t{1}, p.steps / 2, p.steps - 1}) {
        for (const bool lengths : {false, true}) {
          const Inputs in = inputs_of(p.config, steps, batch, ++seed);
          const Tensor right = executed(exact, space, in, lengths, DType::float64);
          const double limit = p.math == Math::strict ? 2e-6 : 2e-3;
          const std::string call = fmt::format("T={} B={} lengths {}", steps, batch, lengths);
          CAPTURE(call);
          const Tensor got = executed(plan, space, in, lengths, DType::float32);
          CHECK(error_of(got, right) < limit);
          CHECK(same(executed(fork, space, in, lengths, DType::float32), got));
        }
      }
    }
    CHECK(plan.status().ok);
  }
}

TEST_CASE("cuda plan sizes: new weights reach every engine of a plan") {
  if (!SpaceTraits<Space>::available()) {
    std::puts("skipped: no CUDA device");
    return;
  }
  const Space space = Space::create();
  const Config config{.input_size = 512, .hidden_size = 512};
  PlanOptions options;
  options.seq_len = 12;
  options.batch_size = 300;
  Plan<Space> plan(space, Weights::random(config, 1), options);
  const Weights other = Weights::random(config, 2);
  Plan<Space> right(space, other, options);
  const CellWeights& cell = other.cell(0, 0);
  const Buffer<Space> w_ih(space, convert(cell.weight_ih, DType::float32)),
      w_hh(space, convert(cell.weight_hh, DType::float32)), b_ih(space, convert(cell.bias_ih, DType::float32)),
      b_hh(space, convert(cell.bias_hh, DType::float32));
  const std::vector<CellWeights> cells = {{w_ih.view(), w_hh.view(), b_ih.view(), b_hh.view()}};
  plan.set_weights(cells);
  for (const std::int64_t batch : {1, 40, 300}) {
    for (const std::int64_t steps : {1, 12}) {
      const Inputs in = inputs_of(config, steps, batch, 3);
      CHECK(same(executed(plan, space, in, steps > 1, DType::float32),
                 executed(right, space, in, steps > 1, DType::float32)));
    }
  }
}

}  // namespace
}  // namespace gru
