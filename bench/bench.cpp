#include "bench/bench.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <random>
#include <type_traits>
#include <utility>

#include "backends/list.hpp"
#include "bench/cases.hpp"
#include "bench/machine.hpp"
#include "bench/peak.hpp"
#include "bench/report.hpp"
#include "bench/subject.hpp"
#include "gru/error.hpp"

namespace gru::bench {
namespace {

/// The oracle is for checking: a larger product than this is left out unless it is named (about half a second of it).
constexpr std::int64_t kOracleFlop = 2'000'000'000;

/// A line that is rewritten in place, from one second after the start on.
class Progress {
 public:
  explicit Progress(std::ostream& out) : out_(out) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { show({}); }

  void show(const std::string& text) {
    if (text.empty() ? !shown_ : std::chrono::steady_clock::now() - start_ < std::chrono::seconds(1)) return;
    out_ << "\r\x1b[K" << text << std::flush;
    shown_ = true;
  }

 private:
  std::ostream& out_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  bool shown_ = false;
};

/// A row to be: what to time, on which space and backend. Subjects are made when their turn comes.
struct Job {
  std::shared_ptr<const Workload> workload;
  std::string space;
  std::string backend;
  bool is_host = false;
  std::function<std::unique_ptr<Subject>(const Workload&, const PlanOptions&)> make;
};

/// The names that --backend takes, in the order of the lists.
std::vector<std::string> backend_names() {
  std::vector<std::string> names;
  const auto add = [&](std::string name) {
    if (std::ranges::find(names, name) == names.end()) names.push_back(std::move(name));
  };
  for_each(spaces{}, [&]<class Space>(type<Space>) {
    add(SpaceTraits<Space>::name);
    for_each(typename backend_trait<Space>::candidates{}, [&]<class B>(type<B>) { add(name_of<B>()); });
  });
  return names;
}

bool is_backend(const std::string& name) {
  bool found = false;
  for_each(spaces{}, [&]<class Space>(type<Space>) {
    for_each(typename backend_trait<Space>::candidates{}, [&]<class B>(type<B>) { found |= name == name_of<B>(); });
  });
  return found;
}

/// The workloads of a space, shared between its backends and spaces: batch1024's data is a quarter of a gigabyte.
class Workloads {
 public:
  explicit Workloads(const Options& options) : options_(options) {
    for (const std::string& name : options.cases) find_case(name);
    if (options.workload) own_ = std::make_shared<const Workload>(*options.workload);
  }

  std::vector<std::shared_ptr<const Workload>> of_space(bool is_host) {
    if (own_) return {own_};
    std::vector<std::shared_ptr<const Workload>> chosen;
    for (const Case& c : kCases) {
      const bool by_default = c.by_default == Where::both || c.by_default == (is_host ? Where::cpu : Where::gpu);
      const bool named = std::ranges::find(options_.cases, c.name) != options_.cases.end();
      if (options_.cases.empty() ? by_default : named) chosen.push_back(of_case(c));
    }
    return chosen;
  }

 private:
  std::shared_ptr<const Workload> of_case(const Case& c) {
    auto& workload = made_[c.name];
    if (!workload) {
      workload = std::make_shared<const Workload>(
          random_workload(std::string(c.name), c.config(), c.seq_len, c.batch_size, options_.plan.dtype));
    }
    return workload;
  }

  const Options& options_;
  std::shared_ptr<const Workload> own_;
  std::map<std::string_view, std::shared_ptr<const Workload>> made_;
};

std::int64_t flop_of(const Workload& w) { return flop(w.weights.config(), w.seq_len(), w.batch_size()); }

/// Every pair of workload and backend that the options ask for; what is known to be left out goes to the report.
std::vector<Job> list_jobs(const Options& options, Report& report) {
  const std::string& wanted = options.plan.backend;
  const bool by_name = is_backend(wanted);
  const auto names = backend_names();
  if (wanted != "auto" && std::ranges::find(names, wanted) == names.end()) {
    throw Error(fmt::format("gru bench: this build has no backend '{}'; choose auto or one of {}", wanted,
                            fmt::join(names, ", ")));
  }
  Workloads workloads(options);
  std::vector<Job> jobs;
  for_each(spaces{}, [&]<class Space>(type<Space>) {
    using Traits = SpaceTraits<Space>;
    if (wanted != "auto" && !by_name && wanted != Traits::name) return;
    if (!Traits::available()) {
      report.skipped.push_back({"every case", Traits::name, "there is no such device here"});
      return;
    }
    for (const auto& workload : workloads.of_space(Traits::is_host)) {
      for_each(typename backend_trait<Space>::candidates{}, [&]<class B>(type<B>) {
        if (by_name && wanted != name_of<B>()) return;
        if (!by_name && name_of<B>() == "eigen" && flop_of(*workload) > kOracleFlop) {
          report.skipped.push_back({workload->name, "eigen", "the oracle is slow; name it to time it"});
          return;
        }
        jobs.push_back({workload, Traits::name, name_of<B>(), Traits::is_host, make_subject<Space>});
      });
    }
  });
  return jobs;
}

Measurement measure_one(const Job& job, PlanOptions options, const Effort& effort, const std::string& label,
                        Progress& progress) {
  options.backend = job.backend;
  progress.show(label + ": prepare");
  const auto subject = job.make(*job.workload, options);
  // Preparing is one-off: no more calls than repeats, however short it is.
  const Summary prepare = repeat(label + "/prepare", {effort.repeats, 0}, [&] { return subject->prepare(); });
  progress.show(label + ": execute");
  subject->execute();  // first touch of caches, clocks and threads
  const Summary execute = repeat(label + "/execute", effort, [&] { return subject->execute(); });
  subject->require_ok();
  return {.case_name = job.workload->name,
          .space = job.space,
          .backend = job.backend,
          .problem = subject->problem(),
          .is_step = job.workload->is_step(),
          .prepare = prepare,
          .execute = execute};
}

}  // namespace

double Measurement::gflops() const {
  const double operations =
      static_cast<double>(flop(problem.config, problem.options.seq_len, problem.options.batch_size));
  return execute.median > 0 ? operations / execute.median * 1e-9 : 0;
}

double Measurement::peak_share() const { return peak_gflops > 0 ? gflops() / peak_gflops : 0; }

Report measure(const Options& options, std::ostream& progress_stream) {
  if (options.effort.repeats < 1 || !(options.effort.min_time >= 0) || !std::isfinite(options.effort.min_time)) {
    throw Error(fmt::format("gru bench: expected at least 1 repeat and a time of 0 s or more, got {} and {}",
                            options.effort.repeats, options.effort.min_time));
  }
  Report report;
  const std::vector<Job> jobs = list_jobs(options, report);
  Progress progress(progress_stream);
  const DType dtype = options.workload ? options.workload->x.dtype() : options.plan.dtype;
  double peak = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const Job& job = jobs[i];
    // Measured beside every case, as neighbours and clocks change; the best is the processor's.
    if (job.is_host) peak = std::max(peak, fma_peak_gflops(dtype));
    try {
      const std::string label = fmt::format("[{}/{}] {} on {}", i + 1, jobs.size(), job.workload->name, job.backend);
      report.measurements.push_back(measure_one(job, options.plan, options.effort, label, progress));
    } catch (const Error& error) {
      report.skipped.push_back({job.workload->name, job.backend, error.what()});
    }
  }
  for (Measurement& m : report.measurements) {
    const auto job = std::ranges::find_if(jobs, [&](const Job& j) { return j.space == m.space; });
    if (job->is_host) m.peak_gflops = peak;
  }
  if (report.measurements.empty()) {
    std::string reasons;
    for (const Skipped& s : report.skipped)
      reasons += fmt::format("\n  {} on {}: {}", s.case_name, s.backend, s.reason);
    throw Error("gru bench: there is nothing that could be timed:" + reasons);
  }
  return report;
}

int run(const Options& options, std::ostream& out, std::ostream& progress) {
  const bool json_to_out = options.json == "-";
  if (options.list) {
    json_to_out ? void(out << cases_as_json().dump(1) << '\n') : print_cases(out);
    return 0;
  }
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
  return 0;
}

}  // namespace gru::bench
