// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/command/command.hpp"
#include "cli/devices.hpp"
#include "cli/files.hpp"
#include "cli/options.hpp"
#include "cli/progress.hpp"
#include "cli/training.hpp"
#include "format.hpp"
#include "gru/error.hpp"
#include "gru/io.hpp"
#include "gru/plan.hpp"

namespace gru::cli {
namespace {

class Grad final : public Command {
 public:
  explicit Grad(CLI::App& program) {
    app = program.add_subcommand("grad", "Compute the gradients of a GRU stored in files");
    add_weight_flags(*app, files_);
    add_input_flags(*app, files_, true);
    files_.weights_option->required();
    files_.input_option->required();
    app->add_option("--grad-output", grad_output_, "Gradient of the output: a .npy file, shaped as the output")
        ->type_name("FILE");
    app->add_option("--grad-hn", grad_h_n_, "Gradient of the last state: a .npy file of (L*D, B, H), or (L*D, H)")
        ->type_name("FILE");
    app->add_option("--output", output_,
                    "Where to write all gradients (.safetensors): under the parameters' names, and x and h0")
        ->type_name("FILE")
        ->required();
    app->add_option("--training", training_,
                    "What the forward keeps: keep (the gates), or remake (they are made again: less memory)")
        ->type_name("MODE")
        ->capture_default_str();
    add_plan_flags(*app, plan_);
    app->footer(
        "Example:\n"
        "  gru grad --weights model.safetensors --input x.npy --grad-output gy.npy --output grads.safetensors\n"
        "The gradients are those of sum(output * grad_output) + sum(h_n * grad_hn); give one of the two at least.");
  }

  void prepare() override {
    if (grad_output_.empty() && grad_h_n_.empty()) {
      throw Error("gru grad: nothing flows back: give --grad-output, --grad-hn, or both");
    }
    options_ = plan_.options(files_.batch_first);
    options_.training = parse_training(training_);
    if (options_.training == Training::none)
      throw Error("gru grad: --training none keeps nothing; choose keep or remake");
    weights_ = load_model(files_, options_.dtype, conversions_);
    inputs_.forward = load_inputs(files_, options_.dtype, conversions_);
    inputs_.grad_output = gradient("--grad-output", grad_output_, {"grad_output"});
    inputs_.grad_h_n = gradient("--grad-hn", grad_h_n_, {"grad_h_n"});
    options_ = options_for(std::as_const(inputs_.forward.x).view(), options_);
    check_inputs(inputs_.forward, weights_->config(), options_);
    check_gradients(inputs_, weights_->config(), options_);
    device_ = plan_.device();
    require_acceptance(ask_backends(device_, weights_->config(), options_));
    check_writable(output_);
  }

  int run() override {
    Gradients gradients;
    {
      const Progress progress("gru grad: computing");
      gradients = differentiate_on(device_, *weights_, options_, inputs_);
      save_safetensors(output_, gradients.tensors);
    }
    std::string line =
        fmt::format("{} ({}): {} T={} B={} {} {}, forward {}, backward {}; {} gradients in {}", gradients.backend,
                    gradients.why, describe(weights_->config()), options_.seq_len, options_.batch_size,
                    name_of(options_.dtype), name_of(options_.math), format_seconds(gradients.forward_seconds),
                    format_seconds(gradients.backward_seconds), gradients.tensors.size(), output_);
    for (const std::string& conversion : conversions_) line += "; converted " + conversion;
    fmt::print("{}\n", line);
    return 0;
  }

 private:
  std::optional<Tensor> gradient(const char* flag, const std::string& path,
                                 const std::vector<std::string_view>& names) {
    if (path.empty()) return std::nullopt;
    return load_gradient(flag, path, names, options_.dtype, conversions_);
  }

  FileFlags files_;
  PlanFlags plan_;
  std::string grad_output_, grad_h_n_, output_;
  std::string training_ = "keep";

  PlanOptions options_;
  std::optional<Weights> weights_;
  TrainingInputs inputs_;
  std::vector<std::string> conversions_;
  Device device_;
};

}  // namespace

std::unique_ptr<Command> add_grad(CLI::App& program) { return std::make_unique<Grad>(program); }

}  // namespace gru::cli
