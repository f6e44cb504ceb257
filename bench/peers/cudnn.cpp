// SPDX-License-Identifier: Apache-2.0
// Times every backend of the CUDA stream and every algorithm of cuDNN on the GPU cases, in one process, on one stream, with
// one clock: CUDA events. Sequences are executed directly and as a CUDA graph that the caller records; a single step is
// 1000 dependent replays between two events. Two floors are timed the same way: a graph that does next to nothing, and the
// exchange of one sequence's state alone, for as many steps as depend on each other.
//
// Any other shapes are given as T,B,I,H,L,D; with --budget-ms, --give-up and --check rows a hundred of them take minutes.
//
//     gru_peer_cudnn kb41 cell --json cudnn.json
//     gru_peer_cudnn --shapes 64,16,1024,1024,2,2 1,64,512,512,1,1 --backend auto --math tf32 --check rows

#include <CLI/CLI.hpp>
#include <Kokkos_Core.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <iostream>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "bench/bench.hpp"
#include "bench/cases.hpp"
#include "bench/peers/cudnn_gru.hpp"
#include "bench/peers/device_clock.hpp"
#include "bench/peers/exchange_floor.hpp"
#include "bench/peers/gpu_shapes.hpp"
#include "bench/peers/ours.hpp"
#include "bench/report/machine.hpp"
#include "bench/report/report.hpp"
#include "gru/error.hpp"
#include "gru/plan.hpp"
#include "src/format.hpp"

namespace {

using namespace gru::bench;
using gru::CudaStream;
using nlohmann::ordered_json;

struct Settings {
  std::vector<std::string> names, shapes, maths = {"fp32", "tf32", "fp16"};
  int samples = 15;
  double budget_ms = 0;  // of a measurement's samples; 0: all of them
  double give_up = 0;    // cuDNN: times the best so far; 0: never
  int chain = 1000;      // executions of a single step in one sample
  std::string backend;   // empty: each of the space's
  std::string check = "float64";
  std::string profile, path;
  double seconds = std::numeric_limits<double>::infinity();
  bool ours_only = false, half_tensors = false, lengths = false, no_floors = false, larger_plan = false;
};

struct Bench {
  const Settings& settings;
  CudaStream space;
  DeviceClock clock;
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

  /// As many samples as the budget has room for, three at least, `once` seconds being what one call takes.
  int samples_of(double once, int chain) const {
    if (settings.budget_ms <= 0) return settings.samples;
    return std::clamp(static_cast<int>(settings.budget_ms * 1e-3 / (once * chain)), 3, std::max(3, settings.samples));
  }

  /// Directly and as a recorded graph. Returns the shorter time in seconds. With a `best` and settings.give_up, what takes
  /// so many times longer the first time is not timed further.
  double time_both(const Case& c, const ordered_json& row, const std::function<void()>& work, double best = 0) {
    const int chain = c.seq_len == 1 ? settings.chain : 1;
    const auto with = [&](const char* mode) {
      ordered_json r = row;
      r["mode"] = mode;
      return r;
    };
    work();
    const Summary once = clock.time(1, 1, work);
    if (best > 0 && settings.give_up > 0 && once.median > settings.give_up * best) {
      ordered_json r = with("direct");
      r["given_up"] = true;
      add(c, std::move(r), once);
      return once.median;
    }
    const Summary direct = clock.time(samples_of(once.median, chain), chain, work);
    add(c, with("direct"), direct);
    RecordedWork graph(clock.stream(), work);
    const Summary replayed = clock.time(samples_of(once.median, chain), chain, [&] { graph.replay(); });
    add(c, with("graph"), replayed);
    return std::min(direct.median, replayed.median);
  }
};

gru::Math math_of(const std::string& name) { return gru::parse_math(name == "fp32" ? "strict" : name); }

/// What cuDNN's tensors are in a precision.
gru::DType tensors_of(gru::Math math) {
  return math == gru::Math::fp16   ? gru::DType::float16
         : math == gru::Math::bf16 ? gru::DType::bfloat16
                                   : gru::DType::float32;
}

/// The float64 plan's output, or none where the check is another.
std::optional<gru::Tensor> exact_output(const Bench& bench, const Case& c, const GpuData& data,
                                        gru::PlanOptions options) {
  if (bench.settings.check != "float64") return {};
  options.dtype = gru::DType::float64;
  options.backend = "cuda-per-step";
  Ours exact(bench.space, c, data, options);
  exact.execute();
  return exact.output();
}

void time_ours(Bench& bench, const Case& c) {
  const Settings& settings = bench.settings;
  const GpuData data(c, settings.lengths);
  gru::PlanOptions options;
  options.batch_size = c.batch_size;
  options.seq_len = c.seq_len;
  const std::optional<gru::Tensor> right = exact_output(bench, c, data, options);
  std::optional<RowCheck> rows;
  if (settings.check == "rows") rows.emplace(c, data);
  options.device_profile = settings.profile;
  const std::vector<std::string> all = gru::Plan<CudaStream>::backends();
  for (const std::string& backend : settings.backend.empty() ? all : std::vector{settings.backend}) {
    for (const std::string& math : settings.maths) {
      ordered_json row{{"peer", "gru"}, {"backend", backend}, {"math", math}};
      options.backend = backend;
      options.math = math_of(math);
      options.dtype = settings.half_tensors ? tensors_of(options.math) : gru::DType::float32;
      row["dtype"] = gru::name_of(options.dtype);
      std::optional<Ours> ours;
      try {
        ours.emplace(bench.space, c, data, options);
      } catch (const gru::Error& error) {
        bench.refuse(c, row, error.what());
        continue;
      }
      row["backend"] = ours->plan().backend();
      row["plan_ms"] = ours->seconds_to_plan() * 1e3;
      ours->execute();
      if (right) row["error"] = relative_error(ours->output(), *right);
      if (rows) row["error"] = rows->error(ours->output());
      row["why"] = ours->plan().why();
      bench.time_both(c, row, [&] { ours->execute(); });
      if (const gru::Status status = ours->plan().status(); !status.ok) throw gru::Error(status.message);
    }
  }
}

/// What a call takes on its own plan and on one for twice its T and four times its B: the same tensors, plan after
/// plan.
void time_larger_plan(Bench& bench, const Case& c) {
  const Settings& settings = bench.settings;
  const GpuData data(c, settings.lengths);
  std::array<gru::PlanOptions, 2> plans;
  plans[0].batch_size = c.batch_size;
  plans[0].seq_len = c.seq_len;
  plans[1].batch_size = 4 * c.batch_size;
  plans[1].seq_len = 2 * c.seq_len;
  std::optional<RowCheck> rows;
  if (settings.check == "rows") rows.emplace(c, data);
  for (const std::string& math : settings.maths) {
    for (gru::PlanOptions& options : plans) {
      options.math = math_of(math);
      options.device_profile = settings.profile;
      if (!settings.backend.empty()) options.backend = settings.backend;
      ordered_json row{{"peer", "gru"}, {"math", math}};
      row["plan"] = fmt::format("T={} B={}", options.seq_len, options.batch_size);
      row["larger"] = options.batch_size != c.batch_size;
      try {
        Ours ours(bench.space, c, data, options);
        row["backend"] = ours.plan().backend();
        row["plan_ms"] = ours.seconds_to_plan() * 1e3;
        row["workspace_bytes"] = ours.plan().workspace_bytes();
        row["why"] = ours.plan().why();
        ours.execute();
        if (rows) row["error"] = rows->error(ours.output());
        bench.time_both(c, row, [&] { ours.execute(); });
      } catch (const gru::Error& error) {
        bench.refuse(c, row, error.what());
      }
    }
  }
}

void time_cudnn(Bench& bench, const Case& c) {
  const std::vector<int> lengths = bench.settings.lengths ? random_lengths(c) : std::vector<int>{};
  for (const std::string& math : bench.settings.maths) {
    if (math == "tf32x3") continue;  // it has none
    double best = 0;
    for (const std::string_view algorithm : kCudnnAlgorithms) {
      ordered_json row{{"peer", "cudnn"}, {"algorithm", algorithm}, {"math", math}};
      if (bench.settings.give_up > 0 && CudnnGru::surely_slower(c, algorithm)) {
        bench.refuse(c, row, "not tried with --give-up: never the fastest for such a shape");
        continue;
      }
      try {
        const auto start = std::chrono::steady_clock::now();
        CudnnGru peer(c, {algorithm, math}, lengths, bench.space.stream());
        row["plan_ms"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() * 1e3;
        const double seconds = bench.time_both(
            c, row, [&] { peer.forward(); }, best);
        best = best == 0 ? seconds : std::min(best, seconds);
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
              bench.clock.time(bench.settings.samples, 1, [&] { floor.run(); }));
  }
}

/// A graph of one four-byte memset, alone and in a chain of dependent replays.
void time_empty_graph(Bench& bench) {
  gru::Buffer<CudaStream> word(bench.space, gru::DType::float32, {1});
  RecordedWork graph(bench.clock.stream(), [&] {
    require_cuda(cudaMemsetAsync(word.view().data, 0, 4, bench.clock.stream()), "cudaMemsetAsync");
  });
  for (const int chain : {1, bench.settings.chain}) {
    const Summary time = bench.clock.time(bench.settings.samples, chain, [&] { graph.replay(); });
    bench.rows.push_back({{"case", "empty"},
                          {"peer", "empty graph"},
                          {"mode", chain == 1 ? "alone" : "chain"},
                          {"ms", time.median * 1e3}});
    std::cout << fmt::format("empty graph, {:4} replays: {:.4f} ms a replay\n", chain, time.median * 1e3);
  }
}

void add_options(CLI::App& app, Settings& s) {
  app.add_option("cases", s.names, "Cases; those of a GPU by default");
  app.add_option("--shapes", s.shapes, "Other shapes, each as T,B,I,H,L,D")->delimiter(' ');
  app.add_option("--math", s.maths, "Precisions of ours and of cuDNN (default fp32 tf32 fp16)")
      ->check(CLI::IsMember({"fp32", "tf32x3", "tf32", "fp16", "bf16"}));
  app.add_option("--samples", s.samples, "Samples, whose median counts")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--budget-ms", s.budget_ms, "Fewer samples, down to three, where they take longer than this together")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--give-up", s.give_up,
                 "Give up cuDNN's algorithms that take so many times longer than the best, or never win")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--chain", s.chain, "Executions of a single step in a sample")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--backend", s.backend, "Ours: auto, or one by name; all of them by default");
  app.add_option("--check", s.check, "Ours against the float64 plan, two rows on the host, or nothing")
      ->capture_default_str()
      ->check(CLI::IsMember({"float64", "rows", "none"}));
  app.add_option("--json", s.path, "Write the results there");
  app.add_option("--seconds", s.seconds, "Begin no case after so many");
  app.add_option("--device-profile", s.profile, "Plan ours as if the GPU were this one");
  app.add_flag("--ours", s.ours_only, "Leave cuDNN out");
  app.add_flag("--tensors-of-16-bits", s.half_tensors, "Ours too takes and gives them in fp16 and bf16, not float32");
  app.add_flag("--lengths", s.lengths, "Lengths uniform in 1..T; cuDNN gets them sorted and packed");
  app.add_flag("--larger-plan", s.larger_plan, "Ours alone: each on its own plan, and on one for 2 T and 4 B");
  app.add_flag("--no-floors", s.no_floors, "Leave the floors out");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Times gru's CUDA backends and cuDNN's algorithms on the GPU cases (gru bench --list) or on any shapes"};
  Settings settings;
  add_options(app, settings);
  CLI11_PARSE(app, argc, argv);
  try {
    const Kokkos::ScopeGuard kokkos;
    const std::vector<Case> chosen = chosen_cases(settings.names, settings.shapes);
    if (!gru::SpaceTraits<CudaStream>::available()) throw gru::Error("gru_peer_cudnn: no CUDA device");
    std::optional<JsonFile> file;
    if (!settings.path.empty()) file.emplace(settings.path);
    ordered_json context = machine_stamp();
    context["versions"] = {{"cudnn", cudnn_version()}};
    context["lengths"] = settings.lengths;
    context["profile"] = settings.profile;
    std::cout << describe(context);
    const CudaStream space = CudaStream::create();
    Bench bench{settings, space, DeviceClock(space.stream())};
    if (!settings.no_floors) time_empty_graph(bench);
    const auto begin = std::chrono::steady_clock::now();
    std::size_t left = chosen.size();
    for (const Case& c : chosen) {
      if (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() > settings.seconds) break;
      --left;
      if (!settings.no_floors) time_exchange(bench, c);
      if (settings.larger_plan) {
        time_larger_plan(bench, c);
        continue;
      }
      time_ours(bench, c);
      if (!settings.ours_only) time_cudnn(bench, c);
    }
    context["cases_left_out"] = left;
    if (left > 0) std::cout << fmt::format("{} of {} cases left out, time is up\n", left, chosen.size());
    if (file) file->write({{"context", std::move(context)}, {"results", std::move(bench.rows)}});
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
  }
  return 1;
}
