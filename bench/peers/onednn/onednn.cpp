// SPDX-License-Identifier: Apache-2.0
// Times oneDNN's LBR_GRU primitive on the benchmark's CPU cases, float32, on the threads that OMP_NUM_THREADS says,
// with the same clock, FMA peak and JSON as `gru bench`. Each case is first compared with the oracle.
//
//     OMP_NUM_THREADS=2 OMP_PROC_BIND=close OMP_PLACES=cores gru_peer_onednn kb39 cell --json onednn.json

#include <CLI/CLI.hpp>
#include <Kokkos_Core.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "bench/bench.hpp"
#include "bench/cases.hpp"
#include "bench/measure/peak.hpp"
#include "bench/peers/onednn/onednn_gru.hpp"
#include "bench/report/machine.hpp"
#include "bench/report/report.hpp"
#include "gru/error.hpp"
#include "gru/plan.hpp"
#include "src/format.hpp"

namespace {

using namespace gru::bench;
using Host = Kokkos::DefaultHostExecutionSpace;
using nlohmann::ordered_json;

/// Steps that are compared with the oracle: enough for every state to depend on every weight many times over.
constexpr std::int64_t kCheckedSteps = 32;
/// Relative L2 error, float32 against double: far above rounding (some 1e-7), far below any wrong gate.
constexpr double kTolerance = 1e-5;

Workload cut(const Case& c, std::int64_t steps) {
  return random_workload(std::string(c.name), c.config(), steps, c.batch_size, gru::DType::float32);
}

double relative_error(const std::vector<float>& values, const gru::Tensor& oracle) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double right = oracle.data<float>()[i];
    difference += (values[i] - right) * (values[i] - right);
    norm += right * right;
  }
  return std::sqrt(difference / norm);
}

/// The larger error of output and h_n over the case's first steps.
double error_against_oracle(const Case& c) {
  const Workload workload = cut(c, std::min(c.seq_len, kCheckedSteps));
  const gru::Config config = c.config();
  const std::int64_t directions = config.num_directions();
  gru::Tensor output(gru::DType::float32, {workload.seq_len(), c.batch_size, directions * c.hidden_size});
  gru::Tensor h_n(gru::DType::float32, {c.num_layers * directions, c.batch_size, c.hidden_size});
  gru::PlanOptions options;
  options.backend = "eigen";
  gru::forward(Host(), workload.weights, {.x = workload.x.view(), .output = output.view(), .h_n = h_n.view()}, options);
  OnednnGru peer(workload);
  peer.execute();
  return std::max(relative_error(peer.output(), output), relative_error(peer.h_n(), h_n));
}

ordered_json time_case(const Case& c, const Effort& effort) {
  const double error = error_against_oracle(c);
  if (!(error < kTolerance)) {
    throw gru::Error(
        fmt::format("gru_peer_onednn: {}: oneDNN's result is off by {:.2g} of the oracle's, more than {:.0g}", c.name,
                    error, kTolerance));
  }
  const Workload workload = cut(c, c.seq_len);
  const bool is_step = workload.is_step();
  OnednnGru peer(workload);
  const Host host;
  const SpaceInstance<Host> space(host);
  const auto once = [&] { return fenced_seconds(space, [&] { is_step ? peer.step() : peer.execute(); }); };
  once();
  const Summary time = repeat(std::string(c.name), effort, once);
  const double gflops = static_cast<double>(flop(c.config(), c.seq_len, c.batch_size)) / time.median * 1e-9;
  ordered_json row{{"case", c.name},          {"peer", "onednn"},         {"threads", host.concurrency()},
                   {"ms", time.median * 1e3}, {"ms_min", time.min * 1e3}, {"ms_max", time.max * 1e3},
                   {"samples", time.calls},   {"gflops", gflops},         {"error", error}};
  if (is_step) {
    row["step_us_p50"] = time.median * 1e6;
    row["step_us_p99"] = time.p99 * 1e6;
  }
  std::cout << fmt::format("{:13} {:2} threads {:11.4f} ms [{:.4f} .. {:.4f}] {:9.2f} GFLOP/s, error {:.1e}\n", c.name,
                           host.concurrency(), time.median * 1e3, time.min * 1e3, time.max * 1e3, gflops, error)
            << std::flush;
  return row;
}

void run(const std::vector<std::string>& names, const Effort& effort, const std::string& path) {
  std::optional<JsonFile> file;
  if (!path.empty()) file.emplace(path);
  ordered_json context = machine_stamp();
  const dnnl_version_t* version = dnnl_version();
  context["versions"] = {{"onednn", fmt::format("{}.{}.{}", version->major, version->minor, version->patch)}};
  std::cout << describe(context);
  ordered_json results = ordered_json::array();
  double peak = 0;
  for (const Case& c : kCases) {
    const bool named = std::ranges::find(names, c.name) != names.end();
    if (names.empty() ? c.by_default == Where::gpu : !named) continue;
    peak = std::max(peak, fma_peak_gflops(gru::DType::float32));
    results.push_back(time_case(c, effort));
  }
  for (ordered_json& row : results) {
    row["peak_gflops"] = peak;
    row["peak_share"] = row.at("gflops").get<double>() / peak;
  }
  if (file) file->write({{"context", std::move(context)}, {"results", std::move(results)}});
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Times oneDNN's LBR_GRU on the benchmark's cases (gru bench --list)"};
  std::vector<std::string> names;
  Effort effort;
  std::string path;
  app.add_option("cases", names, "Cases; those of a CPU by default");
  app.add_option("--repeats", effort.repeats, "Repeats, whose median counts")->capture_default_str();
  app.add_option("--min-time", effort.min_time, "Seconds of calls in each repeat")->capture_default_str();
  app.add_option("--json", path, "Write the results there");
  CLI11_PARSE(app, argc, argv);
  try {
    const Kokkos::ScopeGuard kokkos;
    for (const std::string& name : names) find_case(name);
    run(names, effort, path);
    return 0;
  } catch (const gru::Error& error) {
    std::cerr << error.what() << '\n';
  } catch (const dnnl::error& error) {
    std::cerr << "gru_peer_onednn: oneDNN says: " << error.message << '\n';
  }
  return 1;
}
