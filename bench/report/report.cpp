// SPDX-License-Identifier: Apache-2.0
#include "bench/report/report.hpp"

#include <fmt/ostream.h>

#include <algorithm>
#include <ostream>
#include <utility>

#include "bench/cases.hpp"
#include "gru/io.hpp"
#include "src/format.hpp"
#include "src/io/file.hpp"

namespace gru::bench {
namespace {

using nlohmann::ordered_json;

/// null for what was not measured.
ordered_json measured(double value) { return value > 0 ? ordered_json(value) : ordered_json(); }

ordered_json row_as_json(const Measurement& m) {
  const Config& c = m.problem.config;
  const PlanOptions& options = m.problem.options;
  ordered_json row{{"case", m.case_name},
                   {"space", m.space},
                   {"backend", m.backend},
                   {"dtype", name_of(options.dtype)},
                   {"math", name_of(options.math)},
                   {"threads", m.problem.device.concurrency},
                   {"T", options.seq_len},
                   {"B", options.batch_size},
                   {"I", c.input_size},
                   {"H", c.hidden_size},
                   {"L", c.num_layers},
                   {"D", c.num_directions()},
                   {"prepare_ms", m.prepare.median * 1e3},
                   {"execute_ms_median", m.execute.median * 1e3},
                   {"execute_ms_min", m.execute.min * 1e3},
                   {"execute_ms_max", m.execute.max * 1e3},
                   {"calls", m.execute.calls},
                   {"gflops", m.gflops()},
                   {"peak_gflops", measured(m.peak_gflops)},
                   {"peak_share", measured(m.peak_share())}};
  if (options.training != Training::none) {
    row["training"] = name_of(options.training);
    row["forward_ms_median"] = m.forward.median * 1e3;
    row["backward_ms_median"] = m.backward.median * 1e3;
    row["reserve_bytes"] = m.reserve_bytes;
    row["workspace_bytes"] = m.workspace_bytes;
  }
  if (m.is_step) {
    row["step_us_p50"] = m.execute.median * 1e6;
    row["step_us_p99"] = m.execute.p99 * 1e6;
  }
  return row;
}

ordered_json reasons_as_json(const std::vector<Skipped>& rows) {
  ordered_json list = ordered_json::array();
  for (const Skipped& s : rows) list.push_back({{"case", s.case_name}, {"backend", s.backend}, {"reason", s.reason}});
  return list;
}

std::string share(const Measurement& m) {
  return m.peak_gflops > 0 ? fmt::format("{:.1f} %", 100 * m.peak_share()) : "-";
}

}  // namespace

ordered_json to_json(const Report& report, const Effort& effort, const ordered_json& stamp) {
  ordered_json context = stamp;
  context["min_time_s"] = effort.min_time;
  ordered_json results = ordered_json::array();
  for (const Measurement& m : report.measurements) {
    ordered_json row = row_as_json(m);
    row["repeats"] = effort.repeats;
    results.push_back(std::move(row));
  }
  return {{"context", std::move(context)},
          {"results", std::move(results)},
          {"skipped", reasons_as_json(report.skipped)},
          {"failed", reasons_as_json(report.failed)}};
}

void print_table(const Report& report, std::ostream& out) {
  std::size_t width = 7;
  for (const Measurement& m : report.measurements) width = std::max(width, m.backend.size());
  fmt::print(out, "{:13} {:{}} {:7} {:6} {:>10} {:>11} {:>10} {:>10} {:>9} {:>8}\n", "case", "backend", width, "dtype",
             "math", "prepare ms", "execute ms", "least", "most", "GFLOP/s", "of peak");
  for (const Measurement& m : report.measurements) {
    const PlanOptions& options = m.problem.options;
    fmt::print(out, "{:13} {:{}} {:7} {:6} {:10.3f} {:11.4f} {:10.4f} {:10.4f} {:9.2f} {:>8}\n", m.case_name, m.backend,
               width, name_of(options.dtype), name_of(options.math), m.prepare.median * 1e3, m.execute.median * 1e3,
               m.execute.min * 1e3, m.execute.max * 1e3, m.gflops(), share(m));
    if (options.training != Training::none) {
      fmt::print(
          out,
          "{:13} {:{}} forward {:.4f} ms and backward {:.4f} ms, both above; {} keeps {:.1f} MB, workspace {:.1f} MB\n",
          "", "", width, m.forward.median * 1e3, m.backward.median * 1e3, name_of(options.training),
          static_cast<double>(m.reserve_bytes) * 1e-6, static_cast<double>(m.workspace_bytes) * 1e-6);
    }
    if (m.is_step) {
      fmt::print(out, "{:13} {:{}} one step: p50 {:.2f} us, p99 {:.2f} us\n", "", "", width, m.execute.median * 1e6,
                 m.execute.p99 * 1e6);
    }
  }
  for (const Skipped& s : report.skipped) fmt::print(out, "{} on {} left out: {}\n", s.case_name, s.backend, s.reason);
  for (const Skipped& s : report.failed) fmt::print(out, "{} on {} FAILED: {}\n", s.case_name, s.backend, s.reason);
}

ordered_json cases_as_json() {
  ordered_json list = ordered_json::array();
  for (const Case& c : kCases) {
    const Config config = c.config();
    list.push_back({{"name", c.name},
                    {"T", c.seq_len},
                    {"B", c.batch_size},
                    {"I", c.input_size},
                    {"H", c.hidden_size},
                    {"L", c.num_layers},
                    {"D", config.num_directions()},
                    {"gflop", static_cast<double>(flop(config, c.seq_len, c.batch_size)) * 1e-9},
                    {"cpu_default", c.by_default != Where::gpu},
                    {"gpu_default", c.by_default != Where::cpu},
                    {"reason", c.reason}});
  }
  return {{"cases", std::move(list)}};
}

void print_cases(std::ostream& out) {
  fmt::print(out, "{:13} {:>5} {:>5} {:>5} {:>5} {:>2} {:>2} {:>9}  {:11} {}\n", "case", "T", "B", "I", "H", "L", "D",
             "GFLOP", "by default", "why it is here");
  for (const Case& c : kCases) {
    const Config config = c.config();
    const char* where = c.by_default == Where::both ? "cpu and gpu" : c.by_default == Where::cpu ? "cpu" : "gpu";
    fmt::print(out, "{:13} {:5} {:5} {:5} {:5} {:2} {:2} {:9.4f}  {:11} {}\n", c.name, c.seq_len, c.batch_size,
               c.input_size, c.hidden_size, c.num_layers, config.num_directions(),
               static_cast<double>(flop(config, c.seq_len, c.batch_size)) * 1e-9, where, c.reason);
  }
}

JsonFile::JsonFile(std::filesystem::path path) : path_(std::move(path)) { check_writable(path_); }

void JsonFile::write(const ordered_json& json) const {
  const std::string text = json.dump(1) + '\n';
  OutputFile file(path_);
  file.write(text.data(), text.size());
  file.commit();
}

}  // namespace gru::bench
