// SPDX-License-Identifier: Apache-2.0
#include "bench/bench.hpp"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <optional>
#include <utility>

#include "bench/cases.hpp"
#include "cli/command/command.hpp"
#include "cli/devices.hpp"
#include "cli/files.hpp"
#include "cli/options.hpp"
#include "cli/progress.hpp"
#include "cli/standard_streams.hpp"
#include "format.hpp"
#include "gru/error.hpp"
#include "gru/plan.hpp"

namespace gru::cli {
namespace {

/// The door to bench/: flags in, bench::run out.
class Bench final : public Command {
 public:
  explicit Bench(CLI::App& program) {
    app = program.add_subcommand("bench", "Time every backend on named cases, on sizes or on a model of yours");
    CLI::Option* cases =
        app->add_option("case", options_.cases, "Names of cases (see --list); default: those meant for this machine");
    app->add_flag("--list", options_.list, "Print the cases and stop");
    app->add_option("--json", json_,
                    "Write the results to a file as JSON; without a name to stdout, in place of the table")
        ->type_name("[FILE]")
        ->expected(0, 1);
    app->add_option("--repeats", options_.effort.repeats, "Independent repeats, whose median counts")
        ->type_name("N")
        ->check(positive())
        ->capture_default_str();
    app->add_option("--min-time", options_.effort.min_time, "Seconds of calls in each repeat; 0: one call")
        ->type_name("S")
        ->check(non_negative())
        ->capture_default_str();
    add_weight_flags(*app, files_);
    add_input_flags(*app, files_, false);
    sizes_.config = {.input_size = 128, .hidden_size = 256};
    sizes_.batch_size = 1;
    sizes_.seq_len = 100;
    add_size_flags(*app, sizes_);
    files_.input_option->needs(files_.weights_option)->excludes(cases);
    files_.weights_option->excludes(cases);
    for (CLI::Option* option : sizes_.model_options) option->excludes(files_.weights_option)->excludes(cases);
    for (CLI::Option* option : sizes_.data_options) option->excludes(files_.input_option)->excludes(cases);
    app->add_option("--training", training_,
                    "Time forward and backward with all gradients: keep (the gates), or remake (they are made again)")
        ->type_name("MODE");
    add_plan_flags(*app, plan_);
    add_tuning_flag(*app, plan_);
    app->footer(
        "Example:\n"
        "  OMP_PROC_BIND=close gru bench kb39 cell --json results.json\n"
        "  gru bench --input-size 64 --hidden-size 128 --seq-len 100 --batch-size 8 --backend kokkos\n"
        "  gru bench --weights model.safetensors --input x.npy");
  }

  void prepare() override {
    options_.plan = plan_.options(files_.batch_first);
    options_.plan.training = parse_training(training_);
    if (app->get_option("--json")->count() > 0) options_.json = json_.empty() ? "-" : json_;
    refuse_case_as_file();
    if (options_.list) return refuse_beside_list();
    options_.device = plan_.device();
    ask_backends(options_.device, {.input_size = 1, .hidden_size = 1}, options_.plan);  // refuses names and GPU options
    const bool own_model = files_.weights_option->count() > 0 || sizes_.any_given();
    if (own_model) options_.workload = make_workload();
    if (!own_model && files_.reset_before) {
      throw Error("--reset-before: is for a model of yours; the named cases apply the reset gate after the product");
    }
    if (files_.batch_first && files_.input_option->count() == 0) {
      throw Error("--batch-first: needs --input; a random input is (T, B, I)");
    }
    bench::check(options_);
  }

  int run() override {
    for (const std::string& conversion : conversions_) complain("converted " + conversion);
    std::ostream nobody(nullptr);
    return bench::run(options_, std::cout, watched() ? std::cerr : nobody);
  }

 private:
  // --json takes the word behind it, so that a case there would be left out and written over.
  void refuse_case_as_file() const {
    if (std::ranges::find(bench::kCases, json_, &bench::Case::name) == bench::kCases.end()) return;
    throw Error(
        fmt::format("--json: '{0}' is a case and would be the file's name; for JSON on stdout write gru bench {0} "
                    "--json, for a file of that name --json ./{0}",
                    json_));
  }

  void refuse_beside_list() const {
    for (const CLI::Option* option : app->get_options()) {
      const std::string name = option->get_name();
      if (option->count() > 0 && name != "--list" && name != "--json") {
        throw Error("--list prints the cases and stops; leave out " + name);
      }
    }
    if (!json_.empty()) throw Error("--list --json prints to stdout; leave out the file's name");
  }

  bench::Workload make_workload() {
    const DType dtype = options_.plan.dtype;
    if (files_.weights_option->count() == 0) {
      sizes_.config.bias = !sizes_.no_bias;
      sizes_.config.reset_after = !files_.reset_before;
    }
    std::optional<Weights> weights;
    if (files_.weights_option->count() > 0) weights = load_model(files_, dtype, conversions_);
    const Config config = weights ? weights->config() : sizes_.config;
    if (files_.input_option->count() > 0) {
      bench::Workload workload{"yours", *weights, load_inputs(files_, dtype, conversions_).x, files_.batch_first};
      check_files(files_, {workload.x, {}, {}}, config, options_for(std::as_const(workload.x).view(), options_.plan));
      return workload;
    }
    PlanOptions sizes = options_.plan;
    sizes.seq_len = sizes_.seq_len;
    sizes.batch_size = sizes_.batch_size;
    validate(Problem{config, sizes, {}});  // before a size that overflows is allocated
    bench::Workload workload = bench::random_workload("yours", config, sizes.seq_len, sizes.batch_size, dtype);
    if (weights) workload.weights = *weights;
    return workload;
  }

  bench::Options options_;
  FileFlags files_;
  SizeFlags sizes_;
  PlanFlags plan_;
  std::string json_;
  std::string training_ = "none";
  std::vector<std::string> conversions_;
};

}  // namespace

std::unique_ptr<Command> add_bench(CLI::App& program) { return std::make_unique<Bench>(program); }

}  // namespace gru::cli
