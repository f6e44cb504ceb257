// SPDX-License-Identifier: Apache-2.0
#include "bench/bench.hpp"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <ostream>
#include <utility>

#include "bench/cases.hpp"
#include "bench/jobs.hpp"
#include "bench/measure/peak.hpp"
#include "bench/measure/subject.hpp"
#include "bench/report/machine.hpp"
#include "bench/report/report.hpp"
#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru::bench {
namespace {

/// A line that is rewritten in place, from one second after the start on.
class Progress {
 public:
  explicit Progress(std::ostream& out) : out_(out) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() {
    if (shown_) out_ << "\r\x1b[K" << std::flush;
  }

  void show(const std::string& text) {
    if (std::chrono::steady_clock::now() - start_ < std::chrono::seconds(1)) return;
    out_ << "\r\x1b[K" << text << std::flush;
    shown_ = true;
  }

 private:
  std::ostream& out_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  bool shown_ = false;
};

/// The workload of the job at hand; the one before it is freed first, as batch1024's data is a quarter of a gigabyte.
class CurrentWorkload {
 public:
  const Workload& of(const Job& job, const Options& options) {
    if (job.source == nullptr) return *options.workload;
    if (job.source != source_) {
      workload_.reset();
      source_ = job.source;
      const Case& c = *source_;
      workload_ = random_workload(job.case_name, c.config(), c.seq_len, c.batch_size, job.options.dtype);
    }
    return *workload_;
  }

 private:
  const Case* source_ = nullptr;
  std::optional<Workload> workload_;
};

Measurement measure_training(const Job& job, Subject& subject, const Summary& prepare, const Effort& effort,
                             const std::string& label, Progress& progress) {
  subject.backward();
  Measurement m{.case_name = job.case_name,
                .space = job.space,
                .backend = job.options.backend,
                .problem = subject.problem(),
                .prepare = prepare,
                .execute = {},
                .forward = {},
                .backward = {}};
  m.execute = repeat(label + "/both", effort, [&] { return subject.there_and_back(); });
  progress.show(label + ": forward");
  m.forward = repeat(label + "/forward", effort, [&] { return subject.execute(); });
  progress.show(label + ": backward");
  m.backward = repeat(label + "/backward", effort, [&] { return subject.backward(); });
  m.reserve_bytes = subject.reserve_bytes();
  m.workspace_bytes = subject.workspace_bytes();
  subject.require_ok();
  return m;
}

Measurement measure_one(const Job& job, const Workload& workload, const Effort& effort, const std::string& label,
                        Progress& progress) {
  progress.show(label + ": prepare");
  Subject subject(job.device, job.space, workload, job.options);
  // Preparing is one-off: no more calls than repeats, however short it is.
  const Summary prepare =
      repeat(label + "/prepare", {.repeats = effort.repeats, .min_time = 0}, [&] { return subject.prepare(); });
  progress.show(label + ": execute");
  subject.execute();  // first touch of caches, clocks and threads
  Effort of_samples = effort;
  of_samples.calls_a_sample = subject.calls_a_sample();
  if (subject.trains()) return measure_training(job, subject, prepare, of_samples, label, progress);
  const Summary execute = repeat(label + "/execute", of_samples, [&] { return subject.execute(); });
  subject.require_ok();
  return {.case_name = job.case_name,
          .space = job.space,
          .backend = job.options.backend,
          .problem = subject.problem(),
          .is_step = workload.is_step(),
          .prepare = prepare,
          .execute = execute,
          .forward = {},
          .backward = {}};
}

}  // namespace

double Measurement::gflops() const {
  const double passes = problem.options.training == Training::none ? 1 : 3;
  const double operations =
      passes * static_cast<double>(flop(problem.config, problem.options.seq_len, problem.options.batch_size));
  return execute.median > 0 ? operations / execute.median * 1e-9 : 0;
}

double Measurement::peak_share() const { return peak_gflops > 0 ? gflops() / peak_gflops : 0; }

Report measure(const Options& options, std::ostream& progress_stream) {
  JobList list = list_jobs(options);
  Report report{.measurements = {}, .skipped = std::move(list.skipped), .failed = {}};
  Progress progress(progress_stream);
  CurrentWorkload workload;
  double peak = 0;
  for (std::size_t i = 0; i < list.jobs.size(); ++i) {
    const Job& job = list.jobs[i];
    // Measured beside every case, as neighbours and clocks change; the best is the processor's.
    if (job.device.is_host()) peak = std::max(peak, fma_peak_gflops(job.options.dtype));
    const std::string label =
        fmt::format("[{}/{}] {} on {}", i + 1, list.jobs.size(), job.case_name, job.options.backend);
    try {
      report.measurements.push_back(measure_one(job, workload.of(job, options), options.effort, label, progress));
    } catch (const Error& error) {
      report.failed.push_back({job.case_name, job.options.backend, error.what()});
    }
  }
  for (Measurement& m : report.measurements) {
    const auto job = std::ranges::find(list.jobs, m.space, &Job::space);
    if (job->device.is_host()) m.peak_gflops = peak;
  }
  return report;
}

void check(const Options& options) {
  if (options.list) return;
  list_jobs(options);
  if (!options.json.empty() && options.json != "-") JsonFile{options.json};
}

int run(const Options& options, std::ostream& out, std::ostream& progress) {
  const bool json_to_out = options.json == "-";
  if (options.list) {
    json_to_out ? void(out << cases_as_json().dump(1) << '\n') : print_cases(out);
    return 0;
  }
  check(options);
  std::optional<JsonFile> file;
  if (!options.json.empty() && !json_to_out) file.emplace(options.json);
  const nlohmann::ordered_json stamp = machine_stamp();
  if (!json_to_out) out << describe(stamp) << std::flush;
  const Report report = measure(options, progress);
  const nlohmann::ordered_json json = to_json(report, options.effort, stamp);
  if (json_to_out) {
    out << json.dump(1) << '\n';
  } else {
    print_table(report, out);
  }
  if (file) file->write(json);
  return report.failed.empty() ? 0 : 1;
}

}  // namespace gru::bench
