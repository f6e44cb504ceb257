// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

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
#include "gru/plan.hpp"

namespace gru::cli {
namespace {

class Run final : public Command {
 public:
  explicit Run(CLI::App& program) {
    app = program.add_subcommand("run", "Compute output and last state of a GRU stored in files");
    add_weight_flags(*app, files_);
    add_input_flags(*app, files_, true);
    files_.weights_option->required();
    files_.input_option->required();
    app->add_option("--output", output_,
                    "Where to write the output of every step (.npy or .safetensors; - is stdout), shaped as the input")
        ->type_name("FILE");
    app->add_option("--hn", h_n_,
                    "Where to write the last state (.npy or .safetensors; - is stdout): (L*D, B, H), or (L*D, H)")
        ->type_name("FILE");
    add_plan_flags(*app, plan_);
    add_tuning_flag(*app, plan_);
    app->footer(
        "Example:\n"
        "  gru run --weights model.safetensors --input x.npy --output y.npy --hn hn.npy\n"
        "A PyTorch model's weights: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')");
  }

  void prepare() override {
    options_ = plan_.options(files_.batch_first);
    weights_ = load_model(files_, options_.dtype, conversions_);
    inputs_ = load_inputs(files_, options_.dtype, conversions_);
    options_ = options_for(std::as_const(inputs_.x).view(), options_);
    check_files(files_, inputs_, weights_->config(), options_);
    device_ = plan_.device();
    require_acceptance(ask_backends(device_, weights_->config(), options_));
    check_outputs();
  }

  int run() override {
    Outcome outcome;
    {
      const Progress progress("gru run: computing");
      outcome = execute_on(device_, *weights_, options_, inputs_);
      save(outcome);
    }
    std::string line = fmt::format("{} ({}): {} T={} B={} {} {}, prepared in {}, ran once in {}", outcome.backend,
                                   outcome.why, describe(weights_->config()), options_.seq_len, options_.batch_size,
                                   name_of(options_.dtype), name_of(options_.math),
                                   format_seconds(outcome.prepare_seconds), format_seconds(outcome.execute_seconds));
    for (const std::string& conversion : conversions_) line += "; converted " + conversion;
    const auto saved = [&](const std::string& path, const char* what, const Tensor& tensor) {
      if (!path.empty()) line += fmt::format("; {} ({}) in {}", what, fmt::join(tensor.extents(), ", "), path);
    };
    saved(output_, "output", outcome.output);
    saved(h_n_, "h_n", outcome.h_n);
    if (output_.empty() && h_n_.empty()) line += "; results not kept (no --output, no --hn)";
    if (writes_stdout(output_) || writes_stdout(h_n_)) {
      complain(line);  // stdout is the result's
    } else {
      fmt::print("{}\n", line);
    }
    return 0;
  }

 private:
  void check_outputs() const {
    for (const std::string* output : {&output_, &h_n_}) {
      if (output->empty()) continue;
      for (const std::string* input : {&files_.weights, &files_.input, &files_.h0, &files_.lengths}) {
        if (!input->empty() && *input != "-" && same_file(*output, *input)) {
          throw Error(fmt::format("{}: is an input and would be overwritten; name another path", *output));
        }
      }
      check_output(*output, options_.dtype);
    }
    if (!output_.empty() && !h_n_.empty() && same_file(output_, h_n_)) {
      throw Error(fmt::format("{}: --output and --hn name the same file; name two", output_));
    }
  }

  /// Both files or none.
  void save(const Outcome& outcome) const {
    std::optional<OutputFile> output;
    std::optional<OutputFile> h_n;
    if (!output_.empty()) output.emplace(stage_output(output_, "output", outcome.output));
    if (!h_n_.empty()) h_n.emplace(stage_output(h_n_, "h_n", outcome.h_n));
    if (output && h_n) return OutputFile::commit_together({&*output, &*h_n});
    if (output) output->commit();
    if (h_n) h_n->commit();
  }

  FileFlags files_;
  PlanFlags plan_;
  std::string output_, h_n_;

  PlanOptions options_;
  std::optional<Weights> weights_;
  HostInputs inputs_;
  std::vector<std::string> conversions_;
  Device device_;
};

}  // namespace

std::unique_ptr<Command> add_run(CLI::App& program) { return std::make_unique<Run>(program); }

}  // namespace gru::cli
