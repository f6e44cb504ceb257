// SPDX-License-Identifier: Apache-2.0
#include "cli/devices.hpp"

#include <fmt/ranges.h>

#include <algorithm>

#include "format.hpp"
#include "gru/error.hpp"

namespace gru::cli {

std::vector<BackendAnswer> ask_backends(const Device& device, const Config& config, const PlanOptions& options) {
  std::vector<BackendAnswer> answers = ask(device, config, options);
  const bool gpu = std::ranges::any_of(answers, [](const BackendAnswer& a) { return !a.device.empty() && !a.is_host; });
  if (!gpu && (!options.device_profile.empty() || options.reserve_sms > 0)) {
    throw Error("--device-profile and --reserve-sms are for GPUs, and none is asked here; leave them out");
  }
  return answers;
}

void require_acceptance(const std::vector<BackendAnswer>& answers) {
  std::vector<std::string> reasons;
  for (const BackendAnswer& answer : answers) {
    if (answer.support) return;
    reasons.push_back(fmt::format("{}: no, {}", full_name(answer), answer.support.reason));
  }
  throw Error(fmt::format("no backend takes this GRU: {}", fmt::join(reasons, "; ")));
}

std::string full_name(const BackendAnswer& answer) {
  return answer.space == answer.backend ? answer.backend : answer.space + "/" + answer.backend;
}

std::string backend_choices() {
  std::vector<std::string> names = {"auto"};
  const auto add = [&](const std::string& name) {
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  };
  for (const SpaceReport& space : spaces_of_build()) {
    add(space.name);
    std::ranges::for_each(space.backends, add);
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace gru::cli
