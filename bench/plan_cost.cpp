// SPDX-License-Identifier: Apache-2.0
// What a plan of the CUDA stream costs before its first execution, with weights that lie on the device: the first of
// its shape in the process, one of a shape seen before, and one of a new shape where others of the model are known (a
// step shorter each time). Ready means that the weights are set and the device has nothing left to do. Beside it what
// the same takes from weights on the host, and how long setting new weights keeps the device.
//
//     gru_plan_cost kb41 mid --math fp32 tf32 --json plans.json

#include <cuda_runtime_api.h>

#include <CLI/CLI.hpp>
#include <Kokkos_Core.hpp>
#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "bench/bench.hpp"
#include "bench/cases.hpp"
#include "bench/peers/device_clock.hpp"
#include "bench/peers/gpu_shapes.hpp"
#include "bench/report/machine.hpp"
#include "bench/report/report.hpp"
#include "gru/buffer.hpp"
#include "gru/error.hpp"
#include "gru/plan.hpp"
#include "src/format.hpp"

namespace {

using namespace gru::bench;
using gru::CudaStream;
using gru::Plan;
using nlohmann::ordered_json;

/// A model's weights in device memory, as set_weights takes them.
class WeightsThere {
 public:
  WeightsThere(const CudaStream& space, const gru::Weights& host) {
    const gru::Config& c = host.config();
    for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
      for (std::int64_t d = 0; d < c.num_directions(); ++d) {
        const gru::CellWeights& cell = host.cell(layer, d);
        const auto copy = [&](const gru::ConstTensorView& view) {
          memory_.emplace_back(space, gru::convert(view, gru::DType::float32));
          return gru::ConstTensorView(memory_.back().view());
        };
        cells_.push_back({copy(cell.weight_ih), copy(cell.weight_hh), copy(cell.bias_ih), copy(cell.bias_hh)});
      }
    }
  }
  const std::vector<gru::CellWeights>& cells() const { return cells_; }

 private:
  std::vector<gru::Buffer<CudaStream>> memory_;
  std::vector<gru::CellWeights> cells_;
};

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

ordered_json measure(const CudaStream& space, const Case& c, gru::Math math, int samples) {
  const gru::Weights host = gru::Weights::random(c.config(), 1);
  const gru::Weights zeros = gru::Weights::zeros(c.config());
  const WeightsThere there(space, host);
  DeviceClock clock(space.stream());
  gru::PlanOptions options;
  options.batch_size = c.batch_size;
  options.seq_len = c.seq_len;
  options.math = math;
  options.takes_weights = true;
  std::string backend;
  const auto make = [&] {
    Plan<CudaStream> plan(space, zeros, options);
    plan.set_weights(there.cells());
    gru::SpaceTraits<CudaStream>::fence(space);
    backend = plan.backend();
  };
  ordered_json row{{"case", c.name}, {"math", gru::name_of(math)}};
  row["first_ms"] = seconds_of(make) * 1e3;
  std::vector<double> again, fresh, from_host;
  for (int i = 0; i < samples; ++i) again.push_back(seconds_of(make));
  for (int i = 0; i < samples; ++i) {
    from_host.push_back(seconds_of([&] { Plan<CudaStream>(space, host, options); }));
  }
  Plan<CudaStream> plan(space, zeros, options);
  row["backend"] = plan.backend();
  row["set_weights_us"] = clock.time(samples, 1, [&] { plan.set_weights(there.cells()); }).median * 1e6;
  for (int i = 0; i < samples; ++i) {
    if (c.seq_len > samples) --options.seq_len;
    if (c.seq_len <= samples) ++options.batch_size;
    fresh.push_back(seconds_of(make));
  }
  row["again_ms"] = median(again) * 1e3;
  row["new_shape_ms"] = median(fresh) * 1e3;
  row["from_host_ms"] = median(from_host) * 1e3;
  return row;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Times making plans of gru's CUDA backends"};
  std::vector<std::string> names, shapes, maths = {"fp32", "tf32"};
  std::string path;
  int samples = 9;
  app.add_option("cases", names, "Cases; those of a GPU by default");
  app.add_option("--shapes", shapes, "Other shapes, each as T,B,I,H,L,D")->delimiter(' ');
  app.add_option("--math", maths, "Precisions (default fp32 tf32)");
  app.add_option("--samples", samples, "Plans of each kind, whose median counts")->check(CLI::PositiveNumber);
  app.add_option("--json", path, "Write the results there");
  CLI11_PARSE(app, argc, argv);
  try {
    const Kokkos::ScopeGuard kokkos;
    if (!gru::SpaceTraits<CudaStream>::available()) throw gru::Error("gru_plan_cost: no CUDA device");
    const CudaStream space = CudaStream::create();
    ordered_json rows = ordered_json::array();
    std::cout << fmt::format("{:10} {:7} {:22} {:>9} {:>9} {:>9} {:>9} {:>9}\n", "case", "math", "backend", "first",
                             "again", "new shape", "from host", "set (us)");
    for (const Case& c : chosen_cases(names, shapes)) {
      for (const std::string& math : maths) {
        const ordered_json row = measure(space, c, gru::parse_math(math), samples);
        std::cout << fmt::format("{:10} {:7} {:22} {:9.3f} {:9.3f} {:9.3f} {:9.3f} {:9.1f}\n", c.name, math,
                                 row["backend"].get<std::string>(), row["first_ms"].get<double>(),
                                 row["again_ms"].get<double>(), row["new_shape_ms"].get<double>(),
                                 row["from_host_ms"].get<double>(), row["set_weights_us"].get<double>())
                  << std::flush;
        rows.push_back(row);
      }
    }
    if (!path.empty()) JsonFile(path).write({{"context", machine_stamp()}, {"results", rows}});
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
  }
  return 1;
}
