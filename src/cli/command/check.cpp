// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "accuracy.hpp"
#include "cli/command/command.hpp"
#include "cli/devices.hpp"
#include "cli/files.hpp"
#include "cli/options.hpp"
#include "cli/progress.hpp"
#include "cli/training.hpp"
#include "format.hpp"
#include "gru/error.hpp"
#include "gru/plan.hpp"

namespace gru::cli {
namespace {

std::vector<double> values(const Tensor& tensor) { return to_vector<double>(tensor.view()); }

Tensor as_float64(const Tensor& tensor) { return convert(tensor.view(), DType::float64); }

Tensor tensor_of_values(const std::vector<std::int64_t>& extents, const std::vector<double>& elements) {
  Tensor tensor(DType::float64, extents);
  std::ranges::copy(elements, tensor.data<double>());
  return tensor;
}

class Check final : public Command {
 public:
  explicit Check(CLI::App& program) {
    app = program.add_subcommand("check", "Compare every backend with the oracle, on your model or on a random one");
    add_weight_flags(*app, files_);
    add_input_flags(*app, files_, true);
    sizes_.config = {.input_size = 24, .hidden_size = 40, .num_layers = 2};
    sizes_.batch_size = 5;
    sizes_.seq_len = 25;
    add_size_flags(*app, sizes_);
    app->add_option("--seed", sizes_.seed, "Of the random model and input")
        ->type_name("N")
        ->capture_default_str()
        ->excludes(files_.input_option);
    files_.input_option->needs(files_.weights_option);
    for (CLI::Option* option : sizes_.model_options) option->excludes(files_.weights_option);
    for (CLI::Option* option : sizes_.data_options) option->excludes(files_.input_option);
    app->add_flag("--training", training_, "Compare gradients of everything instead of results");
    add_plan_flags(*app, plan_);
    app->footer(
        "Example:\n"
        "  gru check --weights model.safetensors --input x.npy\n"
        "  gru check --input-size 64 --hidden-size 128 --bidirectional --seq-len 200\n"
        "Tolerances follow from the rounding of the arithmetic and from how strongly the oracle's results react to a "
        "small change of\n"
        "weights and data; for a random model in strict math relative L2 is at most 2e-6 (float32) or 1e-13 "
        "(float64).\n"
        "Exit status 1 if a backend is out of tolerance.");
  }

  void prepare() override {
    options_ = plan_.options(files_.batch_first);
    if (training_) options_.training = Training::keep_gates;
    make_model();
    options_ = options_for(std::as_const(inputs_.x).view(), options_);
    check_files(files_, inputs_, weights_->config(), options_);
    answers_ = ask_backends(plan_.device(), weights_->config(), options_);
    require_acceptance(answers_);
  }

  int run() override {
    if (training_) return run_training();
    Progress progress("gru check: the oracle");
    const HostInputs exact{as_float64(inputs_.x), inputs_.h0 ? std::optional(as_float64(*inputs_.h0)) : std::nullopt,
                           inputs_.lengths};
    const Outcome oracle = execute_oracle(*weights_, options_, exact);
    progress.now("gru check: how strongly results react to their data");
    const Tolerance tolerance = allowed(exact, oracle);

    std::string table =
        fmt::format("{} T={} B={} {} {}, against the oracle in float64\n", describe(weights_->config()),
                    options_.seq_len, options_.batch_size, name_of(options_.dtype), name_of(options_.math));
    for (const std::string& conversion : conversions_) table += fmt::format("converted {}\n", conversion);
    table += fmt::format("{:<24} {:<7} {:>11} {:>11} {:>11} {:>11}  {}\n", "backend", "tensor", "rel. L2", "tolerance",
                         "max abs", "tolerance", "");
    bool all_within = true;
    for (const BackendAnswer& answer : answers_) {
      const std::string name = full_name(answer);
      if (!answer.support) {
        table += fmt::format("{:<24} not run: {}\n", name, answer.support.reason);
        continue;
      }
      progress.now(fmt::format("gru check: {}", name));
      PlanOptions options = options_;
      options.backend = answer.backend;
      const Outcome outcome = execute_on(Device(answer.device), *weights_, options, inputs_);
      all_within &= add_row(table, name, "output", oracle.output, outcome.output, tolerance);
      all_within &= add_row(table, name, "h_n", oracle.h_n, outcome.h_n, tolerance);
    }
    fmt::print("{}", table);
    return all_within ? 0 : 1;
  }

 private:
  void make_model() {
    if (files_.weights_option->count() > 0) {
      weights_ = load_model(files_, options_.dtype, conversions_);
    } else {
      sizes_.config.bias = !sizes_.no_bias;
      sizes_.config.reset_after = !files_.reset_before;
      weights_ = Weights::random(sizes_.config, sizes_.seed, options_.dtype);
    }
    if (files_.input_option->count() > 0) {
      inputs_ = load_inputs(files_, options_.dtype, conversions_);
      return;
    }
    const Config& config = weights_->config();
    const std::int64_t steps = sizes_.seq_len;
    const std::int64_t batch = sizes_.batch_size;
    options_.seq_len = steps;
    options_.batch_size = batch;
    validate(Problem{config, options_, {}});  // before a size that overflows is allocated
    inputs_.x = random_tensor(options_.dtype,
                              files_.batch_first ? std::vector{batch, steps, config.input_size}
                                                 : std::vector{steps, batch, config.input_size},
                              sizes_.seed + 1);
    inputs_.h0 = random_tensor(options_.dtype, {config.num_layers * config.num_directions(), batch, config.hidden_size},
                               sizes_.seed + 2);
  }

  /// What rounding can explain, by the oracle's reaction to small changes of all weights and data.
  Tolerance allowed(const HostInputs& exact, const Outcome& oracle) const {
    const auto results_of = [](const Outcome& outcome) {
      std::vector<double> results = values(outcome.output);
      const std::vector<double> h_n = values(outcome.h_n);
      results.insert(results.end(), h_n.begin(), h_n.end());
      return results;
    };
    const auto run = [&](const Weights& weights, const std::vector<double>& x, const std::vector<double>& h0) {
      HostInputs inputs{tensor_of_values(exact.x.extents(), x), {}, exact.lengths};
      if (exact.h0) inputs.h0 = tensor_of_values(exact.h0->extents(), h0);
      return results_of(execute_oracle(weights, options_, inputs));
    };
    const std::vector<double> h0 = exact.h0 ? values(*exact.h0) : std::vector<double>{};
    double largest_state = 1;
    for (const double h : h0) largest_state = std::isfinite(h) ? std::max(largest_state, std::abs(h)) : largest_state;
    const Condition condition = measure_condition(run, *weights_, values(exact.x), h0, results_of(oracle));
    Tolerance t = tolerance(Problem{weights_->config(), options_, {}}, options_.seq_len, condition, largest_state);
    // Made here, weights and data are at torch's initial scale: there strict math promises more than rounding explains.
    const bool made_here = files_.weights_option->count() == 0 && files_.input_option->count() == 0;
    if (made_here && has_strict_bar(options_.math)) t.l2 = std::min(t.l2, strict_l2_bar(options_.dtype));
    return with_smallest_values(t, options_.dtype, results_of(oracle));
  }

  /// Every gradient of every backend, in both modes, beside the oracle's.
  int run_training() {
    Progress progress("gru check: the oracle's gradients");
    const Config& config = weights_->config();
    TrainingInputs inputs{inputs_, {}, {}};
    std::vector<std::int64_t> output = inputs_.x.extents();
    output.back() = config.num_directions() * config.hidden_size;
    inputs.grad_output = random_tensor(options_.dtype, output, sizes_.seed + 3);
    const auto optional64 = [](const std::optional<Tensor>& t) {
      return t ? std::optional(as_float64(*t)) : std::nullopt;
    };
    const TrainingInputs exact{
        {as_float64(inputs_.x), optional64(inputs_.h0), inputs_.lengths}, optional64(inputs.grad_output), {}};
    const Gradients oracle = differentiate_oracle(*weights_, options_, exact);
    std::string table =
        fmt::format("{} T={} B={} {} {}: gradients against the oracle's in float64, rel. L2 at most {}\n",
                    describe(config), options_.seq_len, options_.batch_size, name_of(options_.dtype),
                    name_of(options_.math), gradient_l2_bar(options_.dtype, Training::keep_gates));
    for (const std::string& conversion : conversions_) table += fmt::format("converted {}\n", conversion);
    table += fmt::format("{:<24} {:<7} {:>11}  {}\n", "backend", "keeps", "worst", "of");
    bool all_within = true;
    for (const BackendAnswer& answer : answers_) {
      if (!answer.support) {
        table += fmt::format("{:<24} not run: {}\n", full_name(answer), answer.support.reason);
        continue;
      }
      for (const Training training : {Training::keep_gates, Training::remake_gates}) {
        progress.now(fmt::format("gru check: gradients of {}", full_name(answer)));
        PlanOptions options = options_;
        options.backend = answer.backend;
        options.training = training;
        const Gradients found = differentiate_on(Device(answer.device), *weights_, options, inputs);
        double worst = 0;
        bool within = true;
        std::string of = oracle.tensors.front().first;
        for (std::size_t i = 0; i < found.tensors.size(); ++i) {
          const std::vector<double> expected = values(oracle.tensors[i].second);
          const double error = compare(expected, values(found.tensors[i].second)).relative_l2;
          within &= error <= gradient_l2_bar(options_.dtype, training, expected);
          if (error <= worst) continue;  // a NaN is never within
          worst = error;
          of = found.tensors[i].first;
        }
        all_within &= within;
        table += fmt::format("{:<24} {:<7} {:>11.2e}  {}{}\n", full_name(answer),
                             training == Training::keep_gates ? "gates" : "outputs", worst, of, within ? "" : "  OUT");
      }
    }
    fmt::print("{}", table);
    return all_within ? 0 : 1;
  }

  static bool add_row(std::string& table, const std::string& backend, const char* what, const Tensor& expected,
                      const Tensor& actual, const Tolerance& tolerance) {
    const Comparison found = compare(values(expected), values(actual));
    const bool within = found.relative_l2 <= tolerance.l2 && found.worst <= tolerance.element;
    table += fmt::format("{:<24} {:<7} {:>11.2e} {:>11.2e} {:>11.2e} {:>11.2e}  {}\n", backend, what, found.relative_l2,
                         tolerance.l2, found.worst, tolerance.element,
                         within ? "ok"
                                : fmt::format("OUT: worst at element {}: expected {:.9g}, got {:.9g}", found.index,
                                              found.expected, found.actual));
    return within;
  }

  FileFlags files_;
  SizeFlags sizes_;
  PlanFlags plan_;
  bool training_ = false;

  PlanOptions options_;
  std::optional<Weights> weights_;
  HostInputs inputs_;
  std::vector<std::string> conversions_;
  std::vector<BackendAnswer> answers_;
};

}  // namespace

std::unique_ptr<Command> add_check(CLI::App& program) { return std::make_unique<Check>(program); }

}  // namespace gru::cli
