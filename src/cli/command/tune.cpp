// SPDX-License-Identifier: Apache-2.0

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "cli/command/command.hpp"
#include "cli/devices.hpp"
#include "cli/files.hpp"
#include "cli/options.hpp"
#include "cli/progress.hpp"
#include "cli/standard_streams.hpp"
#include "format.hpp"
#include "gru/error.hpp"
#include "gru/tuning.hpp"

namespace gru::cli {
namespace {

using nlohmann::ordered_json;

/// Measures the arrangements of one shape and keeps the fastest.
class Tune final : public Command {
 public:
  explicit Tune(CLI::App& program) {
    app = program.add_subcommand("tune", "Measure which arrangement computes a shape fastest, and keep that for plans");
    add_weight_flags(*app, files_);
    sizes_.config = {.input_size = 128, .hidden_size = 256};
    sizes_.batch_size = 1;
    sizes_.seq_len = 100;
    add_size_flags(*app, sizes_);
    for (CLI::Option* option : sizes_.model_options) option->excludes(files_.weights_option);
    add_plan_flags(*app, plan_);
    app->add_option(
           "--cache", cache_,
           "The file that keeps it; default: $GRU_TUNE_CACHE, else gru/tune.json in $XDG_CACHE_HOME or ~/.cache")
        ->type_name("FILE");
    app->add_flag("--json", json_, "Print JSON");
    app->footer(
        "Example:\n"
        "  gru tune --weights model.safetensors --batch-size 64 --seq-len 100 --math tf32\n"
        "  gru run --tuning cache --weights model.safetensors --input x.npy --output y.npy\n"
        "At most three arrangements are tried: the conservative baseline, the backends' own choice, the next best by "
        "estimate. One replaces another only if it is at least 2 % faster, measured in turn with it.");
  }

  void prepare() override {
    options_ = plan_.options(false);
    options_.batch_size = sizes_.batch_size;
    options_.seq_len = sizes_.seq_len;
    options_.tuning_cache = tuning_cache_file(cache_);
    if (files_.weights_option->count() > 0) {
      weights_ = load_model(files_, options_.dtype, conversions_);
    } else {
      sizes_.config.bias = !sizes_.no_bias;
      sizes_.config.reset_after = !files_.reset_before;
      validate(Problem{sizes_.config, options_, {}});  // before a size that overflows is allocated
      weights_ = Weights::random(sizes_.config, 1);
    }
    device_ = plan_.device();
    require_acceptance(ask_backends(device_, weights_->config(), options_));
  }

  int run() override {
    for (const std::string& conversion : conversions_) complain("converted " + conversion);
    TuningReport report;
    {
      const Progress progress("gru tune: measuring");
      report = tune(device_, *weights_, options_);
    }
    if (json_) {
      fmt::print("{}\n", to_json(report).dump(1));
    } else {
      print(report);
    }
    return 0;
  }

 private:
  static ordered_json to_json(const TuningReport& r) {
    ordered_json tries = ordered_json::array();
    for (const TuningTry& t : r.tries) {
      tries.push_back({{"backend", t.backend},
                       {"arrangement", t.arrangement},
                       {"baseline", t.baseline},
                       {"seconds", t.seconds},
                       {"against_seconds", t.against},
                       {"outcome", t.outcome}});
    }
    return {{"device", r.device},           {"shape", r.shape},     {"tries", std::move(tries)}, {"backend", r.backend},
            {"arrangement", r.arrangement}, {"seconds", r.seconds}, {"estimated", r.estimated},  {"cache", r.file}};
  }

  static std::string full_name(const std::string& backend, const std::string& arrangement) {
    return arrangement.empty() ? backend : fmt::format("{} ({})", backend, arrangement);
  }

  static void print(const TuningReport& r) {
    fmt::print("{}: {}\n", r.device, r.shape);
    for (const TuningTry& t : r.tries) {
      fmt::print("  {:<9} {:<32} {:>10}  {}\n", t.baseline ? "baseline" : "tried", full_name(t.backend, t.arrangement),
                 t.seconds > 0 ? format_seconds(t.seconds) : "-", t.outcome);
    }
    fmt::print("chosen: {}, {}; by estimates alone: {}\n", full_name(r.backend, r.arrangement),
               format_seconds(r.seconds), r.estimated);
    if (r.file.empty()) {
      fmt::print("there is nothing to choose between; nothing kept\n");
    } else {
      fmt::print("kept in {}; plans take it with tuning cache\n", r.file);
    }
  }

  FileFlags files_;
  SizeFlags sizes_;
  PlanFlags plan_;
  std::string cache_;
  bool json_ = false;

  PlanOptions options_;
  Device device_;
  std::optional<Weights> weights_;
  std::vector<std::string> conversions_;
};

}  // namespace

std::unique_ptr<Command> add_tune(CLI::App& program) { return std::make_unique<Tune>(program); }

}  // namespace gru::cli
