// SPDX-License-Identifier: Apache-2.0
#include "cli/options.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <utility>

#include "cli/devices.hpp"
#include "format.hpp"
#include "gru/error.hpp"
#include "store_element.hpp"

namespace gru::cli {

namespace {

CLI::Validator at_least(int least, const char* name) {
  const auto check = [least](const std::string& text) {
    double number = 0;
    const bool right = CLI::detail::lexical_cast(text, number) && number >= least && std::isfinite(number);
    return right ? std::string() : fmt::format("expected a number of at least {}, got '{}'", least, text);
  };
  return {check, name};
}

}  // namespace

CLI::Validator positive() { return at_least(1, "POSITIVE"); }
CLI::Validator non_negative() { return at_least(0, "NONNEGATIVE"); }

void add_weight_flags(CLI::App& app, FileFlags& flags) {
  flags.weights_option =
      app.add_option("--weights", flags.weights,
                     "Weights: a safetensors file with torch.nn.GRU's names, or the index of several; sizes, layers, "
                     "directions and bias are read off it; - is stdin")
          ->type_name("FILE");
  app.add_option("--prefix", flags.prefix,
                 "What stands before weight_ih_l0 in the names; needed only where the file holds several GRUs")
      ->type_name("TEXT")
      ->needs(flags.weights_option);
  app.add_flag(
      "--reset-before", flags.reset_before,
      "Reset gate before the recurrent product, as ONNX with linear_before_reset=0; default: after it, as PyTorch");
}

void add_input_flags(CLI::App& app, FileFlags& flags, bool with_state) {
  flags.input_option =
      app.add_option(
             "--input", flags.input,
             "Input: a .npy or safetensors file of (T, B, I), with --batch-first (B, T, I), or (T, I); - is stdin")
          ->type_name("FILE");
  app.add_flag("--batch-first", flags.batch_first, "Input and output are (B, T, ...); the states stay (L*D, B, H)");
  if (!with_state) return;
  app.add_option("--h0", flags.h0, "Initial state: a file of (L*D, B, H), or (L*D, H); default: zeros")
      ->type_name("FILE")
      ->needs(flags.input_option);
  app.add_option("--lengths", flags.lengths,
                 "Valid steps of each sequence, 0 to T: a file of (B) whole numbers; default: all")
      ->type_name("FILE")
      ->needs(flags.input_option);
}

void add_size_flags(CLI::App& app, SizeFlags& flags) {
  const auto size = [&](const char* name, std::int64_t& to, const char* meaning) {
    return app.add_option(name, to, meaning)->type_name("N")->check(positive())->capture_default_str();
  };
  flags.model_options = {
      size("--input-size", flags.config.input_size, "I of a random model"),
      size("--hidden-size", flags.config.hidden_size, "H of a random model"),
      size("--num-layers", flags.config.num_layers, "L of a random model"),
      app.add_flag("--bidirectional", flags.config.bidirectional, "A random model with two directions"),
      app.add_flag("--no-bias", flags.no_bias, "A random model without bias"),
  };
  flags.data_options = {
      size("--batch-size", flags.batch_size, "B of a random input"),
      size("--seq-len", flags.seq_len, "T of a random input"),
  };
}

bool SizeFlags::any_given() const {
  const auto given = [](const CLI::Option* option) { return option->count() > 0; };
  return std::ranges::any_of(model_options, given) || std::ranges::any_of(data_options, given);
}

void add_plan_flags(CLI::App& app, PlanFlags& flags) {
  app.add_option("--device", flags.device_name,
                 "Where to compute: auto, cpu, cuda, cuda:1, ... (gru info lists them); auto takes the first GPU if a "
                 "backend accepts there, else the processor")
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--backend", flags.backend,
                 "Who computes: " + backend_choices() + "; auto takes the first that has a device and accepts")
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--math", flags.math, "Products in: strict (alias fp32), tf32x3, tf32, fp16, bf16")
      ->type_name("MODE")
      ->capture_default_str();
  app.add_option("--dtype", flags.dtype,
                 "Inputs, states and output: float32, float64, float16, bfloat16; files of other types are converted")
      ->type_name("TYPE")
      ->capture_default_str();
  app.add_option("--device-profile", flags.device_profile,
                 fmt::format("Plan as if the GPU were a smaller one: {}", fmt::join(device_profiles(), ", ")))
      ->type_name("NAME");
  app.add_option("--reserve-sms", flags.reserve_sms, "Leave so many of the GPU's multiprocessors to other work")
      ->type_name("N")
      ->check(non_negative());
}

void add_tuning_flag(CLI::App& app, PlanFlags& flags) {
  app.add_option(
         "--tuning", flags.tuning,
         "Which arrangement auto takes: never (by estimates), cache (as measured before by gru tune), now (measures "
         "first, if nothing is kept)")
      ->type_name("MODE")
      ->capture_default_str();
}

PlanOptions PlanFlags::options(bool batch_first) const {
  PlanOptions options;
  options.batch_first = batch_first;
  options.dtype = parse_arithmetic_dtype(dtype);
  options.math = parse_math(math);
  options.backend = backend;
  options.device_profile = device_profile;
  options.reserve_sms = reserve_sms;
  options.tuning = parse_tuning(tuning);
  return options;
}

Device PlanFlags::device() const {
  try {
    return Device(device_name);
  } catch (const Error& error) {
    throw Error(fmt::format("--device: {}", error.what()));
  }
}

Tensor random_tensor(DType dtype, std::vector<std::int64_t> extents, std::uint64_t seed) {
  Tensor tensor(dtype, std::move(extents));
  std::mt19937_64 engine(seed);
  for (std::int64_t i = 0; i < tensor.size(); ++i) {
    // 53 random bits to [-1, 1): std::uniform_real_distribution differs between standard libraries.
    const double value = static_cast<double>(engine() >> 11U) * 0x1p-52 - 1.0;
    store_element(tensor.bytes(), dtype, i, value);
  }
  return tensor;
}

std::string format_seconds(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.1f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.2f} ms", seconds * 1e3);
  return fmt::format("{:.2f} s", seconds);
}

}  // namespace gru::cli
