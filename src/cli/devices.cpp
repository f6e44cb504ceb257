#include "cli/devices.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "backends/list.hpp"
#include "gru/error.hpp"

namespace gru::cli {
namespace {

bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

bool is_backend(const std::vector<SpaceReport>& reports, const std::string& name) {
  return std::ranges::any_of(reports, [&](const SpaceReport& report) { return has(report.backends, name); });
}

/// Whether a name means backends of this space. A backend's name wins over a space's.
bool asked(const std::vector<SpaceReport>& reports, const SpaceReport& report, const std::string& name) {
  if (name == "auto") return true;
  return is_backend(reports, name) ? has(report.backends, name) : report.name == name;
}

/// "auto; space kokkos: kokkos, eigen; space cuda (no device here): ...".
std::string describe_choices(const std::vector<SpaceReport>& spaces) {
  std::string text = "auto";
  for (const SpaceReport& space : spaces) {
    text += fmt::format("; space {}{}: {}", space.name, space.available ? "" : " (no device here)",
                        fmt::join(space.backends, ", "));
  }
  return text;
}

template <class Space>
void ask_space(const SpaceReport& report, const Config& config, const PlanOptions& options, bool by_backend,
               std::vector<Answer>& answers) {
  for_each(typename backend_trait<Space>::candidates{}, [&]<class B>(type<B>) {
    if (by_backend && name_of<B>() != options.backend) return;
    Answer answer{report.name, name_of<B>(), report.available, report.is_host,
                  Support::no("there is no such device here")};
    if (report.available) {
      // A profile stands for a GPU; a host answers for itself.
      const DeviceInfo device = report.is_host ? report.device : apply_profile(report.device, options.device_profile);
      answer.support = B::decide(Problem{config, options, device});
    }
    answers.push_back(std::move(answer));
  });
}

}  // namespace

std::vector<SpaceReport> survey_spaces() {
  std::vector<SpaceReport> reports;
  for_each(spaces{}, [&]<class Space>(type<Space>) {
    using Traits = SpaceTraits<Space>;
    SpaceReport report{Traits::name, Traits::is_host, Traits::available(), {}, {}};
    if (report.available) report.device = Traits::device_info(Traits::make_instance());
    for_each(typename backend_trait<Space>::candidates{},
             [&]<class B>(type<B>) { report.backends.push_back(name_of<B>()); });
    reports.push_back(std::move(report));
  });
  return reports;
}

void check_names(const std::vector<SpaceReport>& reports, const PlanOptions& options) {
  apply_profile({}, options.device_profile);  // refuses an unknown name even where no GPU is asked
  bool known = false;
  bool here = false;
  bool gpu = false;
  for (const SpaceReport& report : reports) {
    if (!asked(reports, report, options.backend)) continue;
    known = true;
    here = here || report.available;
    gpu = gpu || (report.available && !report.is_host);
  }
  if (!known) {
    throw Error(
        fmt::format("--backend: this build has no '{}'; there is {}", options.backend, describe_choices(reports)));
  }
  if (!here) {
    throw Error(
        fmt::format("--backend: '{}' has no device here; there is {}", options.backend, describe_choices(reports)));
  }
  if (!gpu && (!options.device_profile.empty() || options.reserve_sms > 0)) {
    throw Error("--device-profile and --reserve-sms are for GPUs, and none is asked here; leave them out");
  }
}

std::vector<Answer> ask(const std::vector<SpaceReport>& reports, const Config& config, const PlanOptions& options) {
  check_names(reports, options);
  validate(Problem{config, options, {}});
  std::vector<Answer> answers;
  auto report = reports.begin();
  for_each(spaces{}, [&]<class Space>(type<Space>) {
    if (asked(reports, *report, options.backend)) {
      ask_space<Space>(*report, config, options, is_backend(reports, options.backend), answers);
    }
    ++report;
  });
  return answers;
}

Choice choose(const std::vector<Answer>& answers) {
  const auto chosen = std::ranges::find_if(answers, [](const Answer& a) { return a.support.accepted; });
  std::vector<std::string> notes;
  for (auto answer = answers.begin(); answer != answers.end(); ++answer) {
    const std::string name = answer->space == answer->backend ? answer->backend : answer->space + "/" + answer->backend;
    if (answer > chosen) {
      notes.push_back(fmt::format("{}: not asked", name));
    } else if (answer < chosen) {
      notes.push_back(fmt::format("{}: no, {}", name, answer->support.reason));
    } else {
      notes.push_back(fmt::format("{}: {}{}{}", name, answers.size() == 1 ? "named" : "first to accept",
                                  answer->support.reason.empty() ? "" : ", ", answer->support.reason));
    }
  }
  const std::string why = fmt::format("{}", fmt::join(notes, "; "));
  if (chosen == answers.end()) throw Error("no backend of this build takes this GRU: " + why);
  return {chosen->space, chosen->backend, why};
}

std::string backend_choices() {
  std::vector<std::string> names = {"auto"};
  const auto add = [&](const std::string& name) {
    if (!has(names, name)) names.push_back(name);
  };
  for_each(spaces{}, [&]<class Space>(type<Space>) {
    add(SpaceTraits<Space>::name);
    for_each(typename backend_trait<Space>::candidates{}, [&]<class B>(type<B>) { add(name_of<B>()); });
  });
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace gru::cli
