// SPDX-License-Identifier: Apache-2.0
// Times forward, backward and both of our training plans and of cuDNN's algorithms, directly and from a CUDA graph, in one
// process, on one stream, with CUDA events. Ours against the float64 plan: the largest relative error of a gradient.
//
//     gru_peer_training kb41 mid --json training.json
//     gru_peer_training --shapes 96,256,7,64,2,1 --math fp32 --keep remake

#include <CLI/CLI.hpp>
#include <Kokkos_Core.hpp>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "bench/bench.hpp"
#include "bench/cases.hpp"
#include "bench/peers/cudnn_gru.hpp"
#include "bench/peers/device_clock.hpp"
#include "bench/peers/gpu_shapes.hpp"
#include "bench/peers/ours_training.hpp"
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
  std::vector<std::string> names, shapes, maths = {"fp32", "tf32", "fp16"}, keeps = {"keep", "remake"};
  int samples = 9;
  std::string path, check = "float64", profile;
  bool ours_only = false;
};

struct Bench {
  const Settings& settings;
  CudaStream space;
  DeviceClock clock;
  ordered_json rows = ordered_json::array();

  /// Forward, backward and both, directly and as recorded graphs: a row each way.
  void time(const Case& c, const ordered_json& row, const std::function<void()>& forward,
            const std::function<void()>& backward) {
    const auto both = [&] {
      forward();
      backward();
    };
    const auto add = [&](const char* mode, const Summary& f, const Summary& b, const Summary& all) {
      ordered_json r = row;
      r["case"] = c.name;
      r["mode"] = mode;
      r["forward_ms"] = f.median * 1e3;
      r["backward_ms"] = b.median * 1e3;
      r["ms"] = all.median * 1e3;
      r["ms_min"] = all.min * 1e3;
      r["ms_max"] = all.max * 1e3;
      r["samples"] = all.calls;
      std::cout << fmt::format("{:22} {:6} {:24} {:5} {:7} {:7} forward {:9.4f} backward {:9.4f} both {:9.4f} ms\n",
                               c.name, r.value("peer", ""), r.value("algorithm", r.value("backend", "")),
                               r.value("math", ""), r.value("training", ""), mode, f.median * 1e3, b.median * 1e3,
                               all.median * 1e3)
                << std::flush;
      rows.push_back(std::move(r));
    };
    both();
    add("direct", clock.time(settings.samples, 1, forward), clock.time(settings.samples, 1, backward),
        clock.time(settings.samples, 1, both));
    RecordedWork one(clock.stream(), forward), other(clock.stream(), backward), all(clock.stream(), both);
    add("graph", clock.time(settings.samples, 1, [&] { one.replay(); }),
        clock.time(settings.samples, 1, [&] { other.replay(); }),
        clock.time(settings.samples, 1, [&] { all.replay(); }));
  }
  void refuse(const Case& c, ordered_json row, const std::string& reason) {
    row["case"] = c.name;
    row["refused"] = reason;
    std::cout << fmt::format("{:22} {:6} {:24} {:5} refused: {}\n", c.name, row.value("peer", ""),
                             row.value("algorithm", ""), row.value("math", ""), reason);
    rows.push_back(std::move(row));
  }
};

void time_ours(Bench& bench, const Case& c) {
  const GpuData data(c, false);
  gru::PlanOptions options;
  options.batch_size = c.batch_size;
  options.seq_len = c.seq_len;
  options.training = gru::Training::keep_gates;
  std::optional<OursTraining> right;
  if (bench.settings.check == "float64") {
    options.dtype = gru::DType::float64;
    right.emplace(bench.space, c, data, options);
    right->forward();
    right->backward();
    options.dtype = gru::DType::float32;
  }
  options.device_profile = bench.settings.profile;
  for (const std::string& math : bench.settings.maths) {
    for (const std::string& keep : bench.settings.keeps) {
      ordered_json row{{"peer", "gru"}, {"math", math}, {"training", keep}};
      options.math = gru::parse_math(math == "fp32" ? "strict" : math);
      options.training = gru::parse_training(keep);
      // As cuDNN's: tensors of 16 bits in these modes.
      options.dtype = math == "fp16" || math == "bf16"
                          ? gru::parse_arithmetic_dtype(math == "fp16" ? "float16" : "bfloat16")
                          : gru::DType::float32;
      std::optional<OursTraining> ours;
      try {
        ours.emplace(bench.space, c, data, options);
      } catch (const gru::Error& error) {
        bench.refuse(c, row, error.what());
        continue;
      }
      row["backend"] = ours->plan().backend();
      row["why"] = ours->plan().why();
      row["memory_mb"] = static_cast<double>(ours->bytes()) * 1e-6;
      row["reserve_mb"] = static_cast<double>(ours->plan().reserve_bytes()) * 1e-6;
      ours->forward();
      ours->backward();
      if (right) {
        const auto [error, whose] = worst_gradient(*ours, *right);
        row["error"] = error;
        row["error_of"] = whose;
      }
      bench.time(
          c, row, [&] { ours->forward(); }, [&] { ours->backward(); });
      if (const gru::Status status = ours->plan().status(); !status.ok) throw gru::Error(status.message);
    }
  }
}

void time_cudnn(Bench& bench, const Case& c) {
  for (const std::string& math : bench.settings.maths) {
    for (const std::string_view algorithm : kCudnnAlgorithms) {
      ordered_json row{{"peer", "cudnn"}, {"algorithm", algorithm}, {"math", math}};
      if (CudnnGru::surely_slower(c, algorithm)) {
        bench.refuse(c, row, "not tried: never the fastest for such a shape");
        continue;
      }
      try {
        CudnnGru peer(c, {algorithm, math}, {}, bench.space.stream(), CudnnPass::training);
        row["memory_mb"] = static_cast<double>(peer.bytes()) * 1e-6;
        bench.time(
            c, row, [&] { peer.forward(); }, [&] { peer.backward(); });
      } catch (const gru::Error& error) {
        bench.refuse(c, row, error.what());
      }
    }
  }
}

void add_options(CLI::App& app, Settings& s) {
  app.add_option("cases", s.names, "Cases; those of a GPU by default");
  app.add_option("--shapes", s.shapes, "Other shapes, each as T,B,I,H,L,D")->delimiter(' ');
  app.add_option("--math", s.maths, "Precisions of ours and of cuDNN (default fp32 tf32 fp16)")
      ->check(CLI::IsMember({"fp32", "tf32", "fp16", "bf16"}));
  app.add_option("--keep", s.keeps, "What ours keeps (default keep remake)")->check(CLI::IsMember({"keep", "remake"}));
  app.add_option("--samples", s.samples, "Samples, whose median counts")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--check", s.check, "Ours against the float64 plan, or nothing")
      ->capture_default_str()
      ->check(CLI::IsMember({"float64", "none"}));
  app.add_option("--json", s.path, "Write the results there");
  app.add_option("--device-profile", s.profile, "Plan ours as if the GPU were this one");
  app.add_flag("--ours", s.ours_only, "Leave cuDNN out");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Times gru's training plans and cuDNN's algorithms on the GPU cases (gru bench --list) or on any shapes"};
  Settings settings;
  add_options(app, settings);
  CLI11_PARSE(app, argc, argv);
  try {
    const Kokkos::ScopeGuard kokkos;
    const std::vector<Case> chosen = chosen_cases(settings.names, settings.shapes);
    if (!gru::SpaceTraits<CudaStream>::available()) throw gru::Error("gru_peer_training: no CUDA device");
    std::optional<JsonFile> file;
    if (!settings.path.empty()) file.emplace(settings.path);
    ordered_json context = machine_stamp();
    context["versions"] = {{"cudnn", cudnn_version()}};
    std::cout << describe(context);
    const CudaStream space = CudaStream::create();
    Bench bench{settings, space, DeviceClock(space.stream())};
    for (const Case& c : chosen) {
      time_ours(bench, c);
      if (!settings.ours_only) time_cudnn(bench, c);
    }
    if (file) file->write({{"context", std::move(context)}, {"results", std::move(bench.rows)}});
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
  }
  return 1;
}
