// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/execution.hpp"
#include "cli/options.hpp"
#include "gru/tensor.hpp"
#include "gru/weights.hpp"
#include "io/file.hpp"

// The files that options name, as tensors. "-" is standard input or output.

namespace gru::cli {

/// --input, --h0 and --lengths in the plan's dtype: .npy files, or safetensors files with one tensor or one of the option's
/// name. `conversions` gets a text for each file that was stored otherwise. Throws gru::Error with the path.
HostInputs load_inputs(const FileFlags& flags, DType dtype, std::vector<std::string>& conversions);

/// A gradient that flows in, shaped as the output or the state; `names` is what it may be called in a safetensors file.
Tensor load_gradient(const std::string& flag, const std::string& value, const std::vector<std::string_view>& names,
                     DType dtype, std::vector<std::string>& conversions);

/// --weights as stored; `conversions` gets a text if the arithmetic's type is another.
Weights load_model(const FileFlags& flags, DType dtype, std::vector<std::string>& conversions);

/// check_inputs, with the option and the file where the library names the tensor.
void check_files(const FileFlags& flags, const HostInputs& inputs, const Config& config, const PlanOptions& options);

/// Whether two options name one file or stream, be it there yet or not.
bool same_file(const std::string& a, const std::string& b);

/// Whether an output goes to the program's stdout.
bool writes_stdout(const std::string& output);

/// Throws gru::Error if stage_output could not write there; creates nothing that stays.
void check_output(const std::string& output, DType dtype);

/// An output written but not yet in its place: a .npy file, or a safetensors file with one tensor of this name if the
/// path ends so.
OutputFile stage_output(const std::string& output, const std::string& name, const Tensor& tensor);

}  // namespace gru::cli
