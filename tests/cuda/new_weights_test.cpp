// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <cstdio>
#include <deque>
#include <set>
#include <string>
#include <vector>

#include "gru/device.hpp"
#include "gru/device_plan.hpp"
#include "gru/gru.hpp"
#include "tests/support/cuda.hpp"

// Plan::set_weights of plans for inference: the same bits as a plan made with those weights, launches alone, and
// whatever weights are there when a graph is replayed.

namespace gru {
namespace {

using Space = CudaStream;

/// Weights in device memory.
struct There {
  There(const Space& space, const Weights& host, DType dtype) {
    const Config& c = host.config();
    for (std::int64_t i = 0; i < c.num_layers * c.num_directions(); ++i) {
      const CellWeights& cell = host.cell(i / c.num_directions(), i % c.num_directions());
      const auto copy = [&](const ConstTensorView& view) {
        if (!view.given()) return ConstTensorView{};
        memory.emplace_back(space, convert(view, dtype));
        return ConstTensorView(memory.back().view());
      };
      cells.push_back({copy(cell.weight_ih), copy(cell.weight_hh), copy(cell.bias_ih), copy(cell.bias_hh)});
    }
  }
  void copy_in(const Weights& host, DType dtype) {
    auto to = memory.begin();
    const Config& c = host.config();
    for (std::int64_t i = 0; i < c.num_layers * c.num_directions(); ++i) {
      const CellWeights& cell = host.cell(i / c.num_directions(), i % c.num_directions());
      for (const ConstTensorView* view : {&cell.weight_ih, &cell.weight_hh, &cell.bias_ih, &cell.bias_hh}) {
        if (view->given()) (to++)->copy_in(convert(*view, dtype).bytes());
      }
    }
  }
  std::deque<Buffer<Space>> memory;
  std::vector<CellWeights> cells;
};

struct Run {
  Run(const Space& space, const Config& c, const PlanOptions& o)
      : x(space, convert(random_tensor({o.seq_len, o.batch_size, c.input_size}, 3).view(), o.dtype)),
        output(space, o.dtype, {o.seq_len, o.batch_size, c.num_directions() * c.hidden_size}) {}
  Call call() { return {.x = x.view(), .output = output.view()}; }
  Tensor of(Plan<Space>& plan) {
    plan.execute(call());
    return output.to_host();
  }
  Tensor of(Plan<Space>& plan, const std::vector<CellWeights>& cells) {
    plan.execute(call(), cells);
    return output.to_host();
  }
  Buffer<Space> x, output;
};

struct Shape {
  Config config;
  std::int64_t steps, batch;
};
const Shape kShapes[] = {
    {{.input_size = 20, .hidden_size = 36, .num_layers = 2, .bidirectional = true}, 12, 7},
    {{.input_size = 3, .hidden_size = 32}, 9, 5},
    {{.input_size = 72, .hidden_size = 300, .num_layers = 2, .bias = false}, 11, 60},
    {{.input_size = 40, .hidden_size = 240, .num_layers = 2, .bidirectional = true}, 70, 5},
    {{.input_size = 24, .hidden_size = 520, .num_layers = 3}, 9, 1},
    {{.input_size = 30, .hidden_size = 40, .num_layers = 2, .reset_after = false}, 6, 4},
    {{.input_size = 256, .hidden_size = 256}, 1, 1},
    {{.input_size = 70, .hidden_size = 131, .num_layers = 3, .bidirectional = true}, 1, 7},
    {{.input_size = 1, .hidden_size = 1, .bias = false}, 1, 2},
};

/// f(plan options) for each backend, precision and type that takes a shape; the backends that did.
template <class F>
std::set<std::string> for_each_taker(const Shape& shape, const F& f) {
  std::set<std::string> takers;
  for (const std::string& backend : Plan<Space>::backends()) {
    for (const DType dtype : {DType::float32, DType::float64, DType::float16}) {
      for (const Math math : {Math::strict, Math::tf32x3, Math::tf32, Math::fp16, Math::bf16}) {
        PlanOptions o;
        o.seq_len = shape.steps;
        o.batch_size = shape.batch;
        o.dtype = dtype;
        o.math = math;
        o.backend = backend;
        o.takes_weights = true;
        if (dtype == DType::float64 && math != Math::strict) continue;
        if (!ask(Device("cuda"), shape.config, o).front().support) continue;
        CAPTURE(backend);
        CAPTURE(name_of(dtype));
        CAPTURE(name_of(math));
        f(o);
        takers.insert(backend);
      }
    }
  }
  return takers;
}

TEST_CASE("new weights: the same bits as a plan that was made with them, on every CUDA backend for inference") {
  if (!SpaceTraits<Space>::available()) {
    std::puts("skipped: no CUDA device");
    return;
  }
  const Space space = Space::create();
  std::set<std::string> takers;
  for (const Shape& shape : kShapes) {
    CAPTURE(shape.config.hidden_size);
    takers.merge(for_each_taker(shape, [&](const PlanOptions& o) {
      const Weights weights = Weights::random(shape.config, 9, o.dtype);
      const There there(space, weights, o.dtype);
      Run run(space, shape.config, o);
      Plan<Space> made(space, weights, o);
      const Tensor right = run.of(made);
      Plan<Space> set(space, Weights::zeros(shape.config), o);
      Plan<Space> fork = set.fork(Space::create());
      set.set_weights(there.cells);
      CHECK(same(run.of(set), right));
      Plan<Space> brought(space, Weights::zeros(shape.config), o);
      CHECK(same(run.of(brought, there.cells), right));
      Run other(space, shape.config, o);
      fork.execute(other.call());
      SpaceTraits<Space>::fence(space);
      cudaDeviceSynchronize();
      CHECK(same(other.output.to_host(), right));
    }));
  }
  for (const char* backend : {"cuda-cell", "cuda-single-block", "cuda-persistent", "cuda-per-step"}) {
    CHECK(takers.contains(backend));
  }
}

TEST_CASE("new weights: brought by the call, of any strides, and automatic plans for a step take the cell for them") {
  if (!SpaceTraits<Space>::available()) {
    std::puts("skipped: no CUDA device");
    return;
  }
  const Space space = Space::create();
  const Config config{.input_size = 37, .hidden_size = 65};
  PlanOptions o{.batch_size = 3};
  const Weights weights = Weights::random(config, 5);
  Plan<Space> kept(space, weights, o);
  CHECK(kept.backend() != "cuda-cell");
  Run run(space, config, o);
  const Tensor right = run.of(kept);
  o.takes_weights = true;
  Plan<Space> plan(space, Weights::zeros(config), o);
  CHECK(plan.backend() == "cuda-cell");
  // The same numbers, each two elements from the next one, and columns first.
  There there(space, weights, DType::float32);
  std::deque<Buffer<Space>> memory;
  std::vector<CellWeights> cells = there.cells;
  const auto spread = [&](ConstTensorView& view, const ConstTensorView& host) {
    const std::int64_t rows = host.extents[0], columns = host.rank == 2 ? host.extents[1] : 1;
    Tensor apart(DType::float32, {columns, rows, 2});
    const Tensor packed = convert(host, DType::float32);
    for (std::int64_t i = 0; i < rows * columns; ++i) {
      static_cast<float*>(apart.view().data)[2 * (i % columns * rows + i / columns)] =
          static_cast<const float*>(packed.view().data)[i];
    }
    memory.emplace_back(space, apart);
    view.data = memory.back().view().data;
    view.strides = host.rank == 2 ? Dims{2, 2 * rows, 0} : Dims{2, 0, 0};
  };
  const CellWeights& from = weights.cell(0, 0);
  spread(cells[0].weight_ih, from.weight_ih);
  spread(cells[0].weight_hh, from.weight_hh);
  spread(cells[0].bias_ih, from.bias_ih);
  spread(cells[0].bias_hh, from.bias_hh);
  for (const auto& brought : {there.cells, cells}) {
    const Tensor got = run.of(plan, brought);
    for (std::int64_t i = 0; i < 3 * config.hidden_size; ++i) {
      CHECK(static_cast<const float*>(got.view().data)[i] ==
            doctest::Approx(static_cast<const float*>(right.view().data)[i]).epsilon(1e-5));
    }
  }
  CHECK(same(run.of(plan, cells), run.of(plan, there.cells)));
}

TEST_CASE("new weights: captured with an execution, read anew at each replay, without allocation") {
  if (!SpaceTraits<Space>::available()) {
    std::puts("skipped: no CUDA device");
    return;
  }
  const Space space = Space::create();
  for (const Shape& shape : {kShapes[0], kShapes[2], kShapes[6]}) {
    CAPTURE(shape.config.hidden_size);
    for_each_taker(shape, [&](const PlanOptions& o) {
      if (o.dtype == DType::float16) return;  // as float32
      Run run(space, shape.config, o);
      There there(space, Weights::random(shape.config, 9, o.dtype), o.dtype);
      Plan<Space> plan(space, Weights::zeros(shape.config), o);
      SpaceTraits<Space>::fence(space);
      cudaGraph_t graph = nullptr;
      cudaGraphExec_t executable = nullptr;
      require(cudaStreamBeginCapture(space.stream(), cudaStreamCaptureModeThreadLocal));
      plan.execute(run.call(), there.cells);
      require(cudaStreamEndCapture(space.stream(), &graph));
      require(cudaGraphInstantiate(&executable, graph, 0));
      for (const std::uint64_t seed : {9U, 10U}) {
        const Weights weights = Weights::random(shape.config, seed, o.dtype);
        there.copy_in(weights, o.dtype);
        require(cudaGraphLaunch(executable, space.stream()));
        const Tensor replayed = run.output.to_host();
        Plan<Space> made(space, weights, o);
        CHECK(same(replayed, run.of(made)));
      }
      require(cudaGraphExecDestroy(executable));
      require(cudaGraphDestroy(graph));
    });
  }
}

TEST_CASE("new weights: host memory is refused by name") {
  if (!SpaceTraits<Space>::available()) {
    std::puts("skipped: no CUDA device");
    return;
  }
  const Space space = Space::create();
  const Shape& shape = kShapes[1];
  const Weights weights = Weights::random(shape.config, 1);
  Plan<Space> plan(space, weights, {.batch_size = 5, .seq_len = 9});
  There there(space, weights, DType::float32);
  there.cells[0].bias_hh = weights.cell(0, 0).bias_hh;
  CHECK_THROWS_WITH_AS(plan.set_weights(there.cells), doctest::Contains("set_weights: cells[0].bias_hh"), Error);
  Plan<Space> cell(space, weights, {.takes_weights = true, .backend = "cuda-cell"});
  Run run(space, shape.config, {});
  CHECK_THROWS_WITH_AS(cell.execute(run.call(), there.cells), doctest::Contains("cells[0].bias_hh"), Error);
}

}  // namespace
}  // namespace gru
