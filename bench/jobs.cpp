#include "bench/jobs.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "backends/list.hpp"
#include "gru/error.hpp"

namespace gru::bench {
namespace {

/// The oracle is for checking: a case of more operations is left out unless the oracle is named.
constexpr std::int64_t kOracleFlop = 2'000'000'000;

/// The names that Options::plan.backend takes beside "auto".
struct Names {
  std::vector<std::string> spaces;
  std::vector<std::string> backends;

  static bool has(const std::vector<std::string>& names, const std::string& name) {
    return std::ranges::find(names, name) != names.end();
  }
};

Names names_of_build() {
  Names names;
  for_each(spaces{}, [&]<class Space>(type<Space>) {
    names.spaces.push_back(SpaceTraits<Space>::name);
    for_each(typename backend_trait<Space>::candidates{}, [&]<class B>(type<B>) {
      if (!Names::has(names.backends, name_of<B>())) names.backends.push_back(name_of<B>());
    });
  });
  return names;
}

void check_backend_name(const Names& names, const std::string& wanted) {
  if (wanted == "auto" || Names::has(names.spaces, wanted) || Names::has(names.backends, wanted)) return;
  throw Error(fmt::format("gru bench: this build has no backend '{}'; choose auto, a space ({}) or a backend ({})",
                          wanted, fmt::join(names.spaces, ", "), fmt::join(names.backends, ", ")));
}

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

template <class Space>
void list_space(const Options& options, bool by_backend, JobList& list) {
  using Traits = SpaceTraits<Space>;
  if (!Traits::available()) {
    list.skipped.push_back({"everything", Traits::name, "there is no such device here"});
    return;
  }
  const DeviceInfo device = apply_profile(Traits::device_info(Traits::make_instance()), options.plan.device_profile);
  for (const Shape& shape : shapes_of_space(options, Traits::is_host)) {
    for_each(typename backend_trait<Space>::candidates{}, [&]<class B>(type<B>) {
      const std::string name = name_of<B>();
      if (by_backend && name != options.plan.backend) return;
      const Problem problem{shape.config, plan_options(options, shape, name), device};
      validate(problem);
      const Support support = B::decide(problem);
      if (!support) {
        list.skipped.push_back({shape.name, name, support.reason});
      } else if (!by_backend && name == "eigen" && flop(shape.config, shape.seq_len, shape.batch_size) > kOracleFlop) {
        list.skipped.push_back({shape.name, name, "the oracle is slow; name it to time it"});
      } else {
        list.jobs.push_back(
            {shape.name, shape.source, Traits::name, Traits::is_host, problem.options, make_subject<Space>});
      }
    });
  }
}

}  // namespace

JobList list_jobs(const Options& options) {
  check_effort(options.effort);
  for (const std::string& name : options.cases) find_case(name);
  const Names names = names_of_build();
  const std::string& wanted = options.plan.backend;
  check_backend_name(names, wanted);
  const bool by_backend = Names::has(names.backends, wanted);
  JobList list;
  for_each(spaces{}, [&]<class Space>(type<Space>) {
    if (wanted == "auto" || by_backend || wanted == SpaceTraits<Space>::name)
      list_space<Space>(options, by_backend, list);
  });
  if (list.jobs.empty()) {
    std::string reasons;
    for (const Skipped& s : list.skipped) reasons += fmt::format("\n  {} on {}: {}", s.case_name, s.backend, s.reason);
    throw Error("gru bench: there is nothing that could be timed:" + reasons);
  }
  return list;
}

}  // namespace gru::bench
