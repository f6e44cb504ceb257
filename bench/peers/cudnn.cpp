// Times every backend of the CUDA stream and every algorithm of cuDNN on the GPU cases, in one process, on one stream, with
// one clock: CUDA events. Sequences are executed directly and as a CUDA graph that the caller records; a single step is
// 1000 dependent replays between two events. Two floors are timed the same way: a graph that does next to nothing, and the
// exchange of one sequence's state alone, for as many steps as depend on each other.
//
//     gru_peer_cudnn kb41 cell --json cudnn.json

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <Kokkos_Core.hpp>
#include <algorithm>
#include <cmath>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "bench/bench.hpp"
#include "bench/cases.hpp"
#include "bench/machine.hpp"
#include "bench/peers/cudnn_gru.hpp"
#include "bench/peers/device_clock.hpp"
#include "bench/peers/exchange_floor.hpp"
#include "bench/report.hpp"
#include "gru/error.hpp"
#include "gru/plan.hpp"

namespace {

using namespace gru::bench;
using nlohmann::ordered_json;
using Space = gru::CudaStream;

constexpr int kChain = 1000;  // replays of a single step in one sample

struct Bench {
  Space space;
  DeviceClock clock;
  int samples;
  ordered_json rows = ordered_json::array();

  void add(const Case& c, ordered_json row, const Summary& time) {
    const double gflops = static_cast<double>(flop(c.config(), c.seq_len, c.batch_size)) / time.median * 1e-9;
    row["case"] = c.name;
    row["ms"] = time.median * 1e3;
    row["ms_min"] = time.min * 1e3;
    row["ms_max"] = time.max * 1e3;
    row["samples"] = time.calls;
    row["gflops"] = gflops;
    std::cout << fmt::format("{:10} {:8} {:24} {:7} {:6} {:10.4f} ms [{:.4f} .. {:.4f}]\n", c.name,
                             row.value("peer", ""), row.value("backend", row.value("algorithm", "")),
                             row.value("math", ""), row.value("mode", ""), time.median * 1e3, time.min * 1e3,
                             time.max * 1e3)
              << std::flush;
    rows.push_back(std::move(row));
  }
  void refuse(const Case& c, ordered_json row, const std::string& reason) {
    row["case"] = c.name;
    row["refused"] = reason;
    rows.push_back(std::move(row));
  }

  /// Directly and as a recorded graph.
  void time_both(const Case& c, const ordered_json& row, const std::function<void()>& work) {
    const bool step = c.seq_len == 1;
    const auto with = [&](const char* mode) {
      ordered_json r = row;
      r["mode"] = mode;
      return r;
    };
    add(c, with("direct"), clock.time(samples, step ? kChain : 1, work));
    RecordedWork graph(clock.stream(), work);
    add(c, with("graph"), clock.time(samples, step ? kChain : 1, [&] { graph.replay(); }));
  }
};

double relative_error(const gru::Tensor& got, const gru::Tensor& right) {
  const std::vector<double> a = gru::to_vector<double>(got.view());
  const std::vector<double> b = gru::to_vector<double>(right.view());
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

/// One plan with its tensors on the device.
struct Ours {
  gru::Buffer<Space> x, h0, output, h_n;
  gru::Plan<Space> plan;

  Ours(const Space& space, const Case& c, const Workload& w, const gru::Tensor& state, const gru::PlanOptions& options)
      : x(space, gru::convert(w.x.view(), options.dtype)),
        h0(space, gru::convert(state.view(), options.dtype)),
        output(space, options.dtype, {c.seq_len, c.batch_size, c.config().num_directions() * c.hidden_size}),
        h_n(space, options.dtype, {c.num_layers * c.config().num_directions(), c.batch_size, c.hidden_size}),
        plan(space, w.weights, options) {}
  void execute() { plan.execute({.x = x.view(), .h0 = h0.view(), .output = output.view(), .h_n = h_n.view()}); }
};

void time_ours(Bench& bench, const Case& c, const std::string& profile) {
  const gru::Config config = c.config();
  const Workload workload = random_workload(std::string(c.name), config, c.seq_len, c.batch_size, gru::DType::float32);
  gru::Tensor state(gru::DType::float32, {c.num_layers * config.num_directions(), c.batch_size, c.hidden_size});
  for (std::int64_t i = 0; i < state.size(); ++i) state.data<float>()[i] = static_cast<float>(i % 17) / 17.0F - 0.5F;

  gru::PlanOptions options;
  options.batch_size = c.batch_size;
  options.seq_len = c.seq_len;
  options.dtype = gru::DType::float64;
  options.backend = "cuda-per-step";
  Ours exact(bench.space, c, workload, state, options);
  exact.execute();
  const gru::Tensor right = exact.output.to_host();

  options.dtype = gru::DType::float32;
  options.device_profile = profile;
  for (const std::string& backend : gru::Plan<Space>::backends()) {
    for (const gru::Math math : {gru::Math::strict, gru::Math::tf32, gru::Math::fp16}) {
      ordered_json row{{"peer", "gru"}, {"backend", backend}};
      row["math"] = math == gru::Math::strict ? "fp32" : std::string(name_of(math));
      options.backend = backend;
      options.math = math;
      std::optional<Ours> ours;
      try {
        ours.emplace(bench.space, c, workload, state, options);
      } catch (const gru::Error& error) {
        bench.refuse(c, row, error.what());
        continue;
      }
      ours->execute();
      row["error"] = relative_error(ours->output.to_host(), right);
      row["why"] = ours->plan.why();
      bench.time_both(c, row, [&] { ours->execute(); });
      if (const gru::Status status = ours->plan.status(); !status.ok) throw gru::Error(status.message);
    }
  }
}

void time_cudnn(Bench& bench, const Case& c) {
  for (const std::string_view algorithm : kCudnnAlgorithms) {
    for (const std::string_view math : kCudnnMaths) {
      const ordered_json row{{"peer", "cudnn"}, {"algorithm", algorithm}, {"math", math}};
      try {
        CudnnGru peer(c, {algorithm, math}, bench.space.stream());
        bench.time_both(c, row, [&] { peer.forward(); });
      } catch (const gru::Error& error) {
        bench.refuse(c, row, error.what());
      }
    }
  }
}

/// What the chain of exchanges takes with nothing else done: one sequence, layers that wait for each other only where both
/// directions of the layer below are needed, 32 units a block up to H = 512, then 16.
void time_exchange(Bench& bench, const Case& c) {
  const int values = static_cast<int>(c.hidden_size), blocks = values / (values > 512 ? 16 : 32);
  if (c.seq_len == 1 || blocks < 2 || values % (4 * blocks) != 0) return;
  const auto steps = static_cast<int>(c.bidirectional ? c.seq_len * c.num_layers : c.seq_len + c.num_layers - 1);
  for (const bool cluster : {false, true}) {
    if (cluster && !ExchangeFloor::has_clusters(blocks)) continue;
    ExchangeFloor floor(values, blocks, steps, cluster, bench.clock.stream());
    bench.add(c,
              {{"peer", "floor"},
               {"algorithm", fmt::format("exchange, {} blocks", blocks)},
               {"mode", cluster ? "cluster" : "L2"},
               {"steps", steps}},
              bench.clock.time(bench.samples, 1, [&] { floor.run(); }));
  }
}

/// A graph of one four-byte memset, alone and in a chain of dependent replays.
void time_empty_graph(Bench& bench) {
  gru::Buffer<Space> word(bench.space, gru::DType::float32, {1});
  RecordedWork graph(bench.clock.stream(), [&] {
    require_cuda(cudaMemsetAsync(word.view().data, 0, 4, bench.clock.stream()), "cudaMemsetAsync");
  });
  for (const int chain : {1, kChain}) {
    const Summary time = bench.clock.time(bench.samples, chain, [&] { graph.replay(); });
    bench.rows.push_back({{"case", "empty"},
                          {"peer", "empty graph"},
                          {"mode", chain == 1 ? "alone" : "chain"},
                          {"ms", time.median * 1e3}});
    std::cout << fmt::format("empty graph, {:4} replays: {:.4f} ms a replay\n", chain, time.median * 1e3);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Times gru's CUDA backends and cuDNN's algorithms on the GPU cases (gru bench --list)"};
  std::vector<std::string> names;
  int samples = 15;
  std::string path;
  std::string profile;
  bool ours_only = false;
  app.add_option("cases", names, "Cases; those of a GPU by default");
  app.add_option("--samples", samples, "Samples, whose median counts")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--json", path, "Write the results there");
  app.add_option("--device-profile", profile, "Plan ours as if the GPU were this one");
  app.add_flag("--ours", ours_only, "Leave cuDNN out");
  CLI11_PARSE(app, argc, argv);
  try {
    const Kokkos::ScopeGuard kokkos;
    for (const std::string& name : names) find_case(name);
    if (!gru::SpaceTraits<Space>::available()) throw gru::Error("gru_peer_cudnn: no CUDA device");
    std::optional<JsonFile> file;
    if (!path.empty()) file.emplace(path);
    ordered_json context = machine_stamp();
    context["versions"] = {{"cudnn", cudnn_version()}};
    std::cout << describe(context);
    const Space space = Space::create();
    Bench bench{space, DeviceClock(space.stream()), samples};
    time_empty_graph(bench);
    for (const Case& c : kCases) {
      const bool named = std::ranges::find(names, c.name) != names.end();
      if (names.empty() ? c.by_default == Where::cpu : !named) continue;
      time_exchange(bench, c);
      time_ours(bench, c, profile);
      if (!ours_only) time_cudnn(bench, c);
    }
    if (file) file->write({{"context", std::move(context)}, {"results", std::move(bench.rows)}});
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
  }
  return 1;
}
