// SPDX-License-Identifier: Apache-2.0
#include "bench/jobs.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "gru/device_plan.hpp"
#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru::bench {
namespace {

/// The oracle is for checking: a case of more operations is left out unless the oracle is named.
constexpr std::int64_t kOracleFlop = 2'000'000'000;

void check_effort(const Effort& effort) {
  if (effort.repeats < 1 || !(effort.min_time >= 0) || !std::isfinite(effort.min_time)) {
    throw Error(fmt::format("gru bench: expected at least 1 repeat and a time of 0 s or more, got {} and {}",
                            effort.repeats, effort.min_time));
  }
}

/// What is timed, in sizes alone.
struct Shape {
  std::string name;
  const Case* source = nullptr;
  Config config;
  std::int64_t seq_len = 0;
  std::int64_t batch_size = 0;
};

std::vector<Shape> shapes_of_space(const Options& options, bool is_host) {
  if (options.workload) {
    const Workload& own = *options.workload;
    return {{own.name, nullptr, own.weights.config(), own.seq_len(), own.batch_size()}};
  }
  std::vector<Shape> shapes;
  for (const Case& c : kCases) {
    const bool by_default = c.by_default == Where::both || c.by_default == (is_host ? Where::cpu : Where::gpu);
    const bool named = std::ranges::find(options.cases, c.name) != options.cases.end();
    if (options.cases.empty() ? by_default : named) {
      shapes.push_back({std::string(c.name), &c, c.config(), c.seq_len, c.batch_size});
    }
  }
  return shapes;
}

PlanOptions plan_options(const Options& options, const Shape& shape, std::string backend) {
  PlanOptions plan = options.plan;
  plan.backend = std::move(backend);
  plan.seq_len = shape.seq_len;
  plan.batch_size = shape.batch_size;
  plan.batch_first = options.workload && options.workload->batch_first;
  if (options.workload) plan.dtype = options.workload->x.dtype();
  return plan;
}

/// The options with sizes that are valid whatever the workload's are.
PlanOptions names_only(PlanOptions options) {
  options.batch_size = 1;
  options.seq_len = 1;
  return options;
}

/// A device with the backends that options name, and the others as skipped.
void list_shape(const Options& options, const Shape& shape, const Device& device, JobList& list) {
  const PlanOptions plan = plan_options(options, shape, options.plan.backend);
  const std::vector<BackendAnswer> answers = ask(device, shape.config, plan);
  for (const BackendAnswer& answer : answers) {
    const bool named = answer.backend == plan.backend;
    const bool is_long = flop(shape.config, shape.seq_len, shape.batch_size) > kOracleFlop;
    if (!answer.support) {
      list.skipped.push_back({shape.name, answer.backend, answer.support.reason});
    } else if (!named && answer.backend == "eigen" && is_long) {
      list.skipped.push_back({shape.name, answer.backend, "the oracle is slow; name it to time it"});
    } else {
      list.jobs.push_back(
          {shape.name, shape.source, device, answer.space, plan_options(options, shape, answer.backend)});
    }
  }
}

/// The devices that the options mean, one of each kind for "auto", which have a backend of the wanted name.
std::vector<Device> devices_of(const Options& options, JobList& list) {
  std::vector<Device> devices;
  for (const BackendAnswer& answer :
       ask(options.device, {.input_size = 1, .hidden_size = 1}, names_only(options.plan))) {
    if (answer.device.empty()) {
      const auto seen = std::ranges::find(list.skipped, answer.space, &Skipped::backend);
      if (seen == list.skipped.end()) list.skipped.push_back({"everything", answer.space, answer.support.reason});
    } else if (std::ranges::find(devices, answer.device, &Device::name) == devices.end()) {
      devices.emplace_back(answer.device);
    }
  }
  return devices;
}

}  // namespace

JobList list_jobs(const Options& options) {
  check_effort(options.effort);
  for (const std::string& name : options.cases) find_case(name);
  JobList list;
  for (const Device& device : devices_of(options, list)) {
    for (const Shape& shape : shapes_of_space(options, device.is_host())) list_shape(options, shape, device, list);
  }
  if (list.jobs.empty()) {
    std::string reasons;
    for (const Skipped& s : list.skipped) reasons += fmt::format("\n  {} on {}: {}", s.case_name, s.backend, s.reason);
    throw Error("gru bench: there is nothing that could be timed:" + reasons);
  }
  return list;
}

}  // namespace gru::bench
