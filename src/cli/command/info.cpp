// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <tuple>
#include <utility>

#include "bench/report/machine.hpp"
#include "cli/command/command.hpp"
#include "cli/devices.hpp"
#include "cli/files.hpp"
#include "cli/options.hpp"
#include "format.hpp"
#include "gru/error.hpp"
#include "gru/version.hpp"

namespace gru::cli {
namespace {

using nlohmann::ordered_json;

class Info final : public Command {
 public:
  explicit Info(CLI::App& program) {
    app = program.add_subcommand("info",
                                 "Say what this build and this machine have, and which backend a model would get");
    app->add_flag("--json", json_, "Print JSON");
    add_weight_flags(*app, files_);
    batch_size_ = app->add_option("--batch-size", options_.batch_size, "B that the backends are asked about");
    seq_len_ = app->add_option("--seq-len", options_.seq_len, "T that the backends are asked about");
    for (CLI::Option* option : {batch_size_, seq_len_}) {
      option->type_name("N")->check(positive())->capture_default_str()->needs(files_.weights_option);
    }
    add_plan_flags(*app, plan_);
    app->footer(
        "Example:\n"
        "  gru info\n"
        "  gru info --weights model.safetensors --batch-size 16 --seq-len 100 --json");
  }

  void prepare() override {
    const auto sizes = std::pair{options_.batch_size, options_.seq_len};
    options_ = plan_.options(false);
    std::tie(options_.batch_size, options_.seq_len) = sizes;
    device_ = plan_.device();
    if (files_.weights_option->count() == 0) {
      refuse_plan_flags();
      return;
    }
    std::vector<std::string> conversions;
    weights_ = load_model(files_, options_.dtype, conversions);
    answers_ = ask_backends(device_, weights_->config(), options_);
  }

  int run() override {
    const ordered_json report = make_report();
    if (json_) {
      fmt::print("{}\n", report.dump(1));
    } else {
      print(report);
    }
    return 0;
  }

 private:
  /// Without a model nobody is asked, so flags about the question would have no effect.
  void refuse_plan_flags() const {
    for (const char* flag :
         {"--device", "--backend", "--math", "--dtype", "--device-profile", "--reserve-sms", "--reset-before"}) {
      if (app->get_option(flag)->count() > 0)
        throw Error(fmt::format("{}: needs --weights, the model to ask about", flag));
    }
  }

  ordered_json make_report() const {
    ordered_json report = bench::machine_stamp();
    report.erase("devices");
    report["cuda_kernels"] = kCudaEnabled;
    std::ostringstream configuration;
    Kokkos::print_configuration(configuration);
    report["kokkos"]["configuration"] = configuration.str();
    ordered_json list = ordered_json::array();
    for (const SpaceReport& space : spaces_of_build()) {
      list.push_back({{"name", space.name}, {"available", space.available}, {"backends", space.backends}});
    }
    report["spaces"] = std::move(list);
    report["devices"] = ordered_json::array();
    for (const Device& device : Device::list()) report["devices"].push_back(device_json(device));
    if (weights_) report["model"] = model_json();
    return report;
  }

  static ordered_json device_json(const Device& device) {
    const DeviceInfo& info = device.info();
    ordered_json json{{"name", device.name()},
                      {"description", device.description()},
                      {"memory_bytes", device.memory_bytes()},
                      {"concurrency", info.concurrency},
                      {"spaces", ordered_json::array()}};
    for (const SpaceReport& space : device.spaces()) json["spaces"].push_back(space.name);
    if (device.is_host()) return json;
    json["compute_capability"] = info.compute_capability;
    json["sm_count"] = info.sm_count;
    json["shared_memory_per_block"] = info.shared_memory_per_block;
    json["shared_memory_per_sm"] = info.shared_memory_per_sm;
    json["registers_per_sm"] = info.registers_per_sm;
    json["l2_bytes"] = info.l2_bytes;
    json["max_cluster_size"] = info.max_cluster_size;
    return json;
  }

  ordered_json model_json() const {
    const Config& config = weights_->config();
    ordered_json json{{"input_size", config.input_size},
                      {"hidden_size", config.hidden_size},
                      {"num_layers", config.num_layers},
                      {"bidirectional", config.bidirectional},
                      {"bias", config.bias},
                      {"reset_after", config.reset_after},
                      {"batch_size", options_.batch_size},
                      {"seq_len", options_.seq_len},
                      {"dtype", name_of(options_.dtype)},
                      {"math", name_of(options_.math)}};
    ordered_json asked = ordered_json::array();
    for (const BackendAnswer& answer : answers_) {
      asked.push_back({{"device", answer.device},
                       {"space", answer.space},
                       {"backend", answer.backend},
                       {"accepts", answer.support.accepted},
                       {"remark", answer.support.reason}});
    }
    json["backends"] = std::move(asked);
    const auto chosen = std::ranges::find_if(answers_, [](const BackendAnswer& a) { return a.support.accepted; });
    json["chosen"] =
        chosen == answers_.end()
            ? ordered_json()
            : ordered_json{{"device", chosen->device}, {"space", chosen->space}, {"backend", chosen->backend}};
    return json;
  }

  static void print(const ordered_json& report) {
    const auto text = [](const ordered_json& value) { return value.get<std::string>(); };
    const auto yes = [](const ordered_json& value) { return value.get<bool>() ? "yes" : "no"; };
    fmt::print("gru {} ({}), CUDA kernels: {}\n", text(report["version"]), text(report["commit"]),
               yes(report["cuda_kernels"]));
    fmt::print("processor: {}, {} cores, {}\n", text(report["cpu"]), report["cores"].get<int>(), text(report["isa"]));
    fmt::print("Kokkos {}, host space {} with {} threads, default space {}\n", text(report["kokkos"]["version"]),
               text(report["kokkos"]["host_space"]), report["threads"].get<int>(),
               text(report["kokkos"]["default_space"]));
    for (const auto& device : report["devices"]) {
      std::string capability;
      if (device.contains("compute_capability")) {
        const int number = device["compute_capability"].get<int>();
        capability = fmt::format(", compute capability {}.{}", number / 10, number % 10);
      }
      fmt::print("device {}: {}, {:.1f} GiB{}; spaces: {}\n", text(device["name"]), text(device["description"]),
                 device["memory_bytes"].get<double>() / (1U << 30U), capability,
                 fmt::join(device["spaces"].get<std::vector<std::string>>(), ", "));
    }
    for (const auto& space : report["spaces"]) {
      fmt::print("space {}: {}backends: {}\n", text(space["name"]),
                 space["available"].get<bool>() ? "" : "no such device here; ",
                 fmt::join(space["backends"].get<std::vector<std::string>>(), ", "));
    }
    if (report.contains("model")) print_model(report["model"]);
    fmt::print("Kokkos' own account:\n{}", text(report["kokkos"]["configuration"]));
  }

  static void print_model(const ordered_json& model) {
    const auto text = [](const ordered_json& value) { return value.get<std::string>(); };
    fmt::print("model: I={} H={} L={} D={} {} reset-{}, asked with T={} B={} {} {}\n",
               model["input_size"].get<std::int64_t>(), model["hidden_size"].get<std::int64_t>(),
               model["num_layers"].get<std::int64_t>(), model["bidirectional"].get<bool>() ? 2 : 1,
               model["bias"].get<bool>() ? "bias" : "no-bias", model["reset_after"].get<bool>() ? "after" : "before",
               model["seq_len"].get<std::int64_t>(), model["batch_size"].get<std::int64_t>(), text(model["dtype"]),
               text(model["math"]));
    bool chosen = false;
    for (const auto& answer : model["backends"]) {
      const bool accepts = answer["accepts"].get<bool>();
      const std::string remark = text(answer["remark"]);
      fmt::print("  {}/{}: {}{}{}{}\n", text(answer["space"]), text(answer["backend"]), accepts ? "yes" : "no",
                 remark.empty() ? "" : ", ", remark, accepts && !chosen ? "  <- chosen" : "");
      chosen = chosen || accepts;
    }
    if (!chosen) fmt::print("  none accepts\n");
  }

  FileFlags files_;
  PlanFlags plan_;
  bool json_ = false;
  CLI::Option* batch_size_ = nullptr;
  CLI::Option* seq_len_ = nullptr;

  PlanOptions options_;
  Device device_;
  std::optional<Weights> weights_;
  std::vector<BackendAnswer> answers_;
};

}  // namespace

std::unique_ptr<Command> add_info(CLI::App& program) { return std::make_unique<Info>(program); }

}  // namespace gru::cli
