// SPDX-License-Identifier: Apache-2.0
#include "cli/files.hpp"

#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "format.hpp"
#include "gru/error.hpp"
#include "gru/io.hpp"
#include "io/checkpoint.hpp"
#include "io/load_weights.hpp"
#include "io/npy.hpp"
#include "io/recognise.hpp"
#include "io/safetensors.hpp"

namespace gru::cli {
namespace {

constexpr std::string_view kStream = "-";
constexpr std::string_view kSafetensors = ".safetensors";

InputFile open_input(const std::string& value) {
  return value == kStream ? InputFile::standard_input() : InputFile(value);
}

// What messages call it.
std::string shown(const std::string& value) { return value == kStream ? "standard input" : value; }

// What stat() looks at.
std::string path_of(const std::string& value, const char* stream) { return value == kStream ? stream : value; }

// A tensor of a file, and what its elements are called there.
struct Loaded {
  Tensor tensor;
  std::string stored;
};

// The one tensor of a safetensors file, or that with one of the names.
Loaded load_from_safetensors(InputFile file, const std::vector<std::string_view>& names) {
  const std::string path = file.name();
  Checkpoint checkpoint(std::move(file));
  const auto& tensors = checkpoint.tensors();
  auto found = tensors.size() == 1 ? tensors.begin() : tensors.end();
  for (const std::string_view name : names) {
    if (found == tensors.end()) found = std::ranges::find(tensors, name, &SafetensorsEntry::name);
  }
  if (found == tensors.end()) {
    throw Error(fmt::format("{}: holds {} tensors, and none is called '{}'; rename the one that is meant", path,
                            tensors.size(), fmt::join(names, "' or '")));
  }
  if (!found->dtype) {
    throw Error(fmt::format("{}: '{}' holds {}, which cannot be read; save it as F32, or whole numbers as I64", path,
                            printable(found->name), printable(found->dtype_name)));
  }
  Tensor tensor = checkpoint.make_tensor(*found->dtype, found->extents);
  checkpoint.read(static_cast<std::size_t>(found - tensors.begin()), tensor.bytes());
  return {std::move(tensor), std::string(name_of(*found->dtype))};
}

Loaded load_tensor(const std::string& value, const std::vector<std::string_view>& names) {
  InputFile file = open_input(value);
  if (begins_safetensors(file.head(kSafetensorsBegin))) {
    return load_from_safetensors(std::move(file), names);
  }
  NpyArray array = read_npy(file);
  return {std::move(array.tensor), std::string(array.stored)};
}

bool is_floating(DType dtype) { return dtype != DType::int32 && dtype != DType::int64; }

Tensor load_values(const std::string& flag, const std::string& path, const std::vector<std::string_view>& names,
                   DType dtype, std::vector<std::string>& conversions) {
  auto [tensor, stored] = load_tensor(path, names);
  if (tensor.rank() != 2 && tensor.rank() != 3) {
    throw Error(fmt::format("{}: {} has {} dimensions ({}); expected 3, or 2 without a batch", shown(path), flag,
                            tensor.rank(), fmt::join(tensor.extents(), ", ")));
  }
  if (!is_floating(tensor.dtype())) {
    throw Error(fmt::format("{}: {} holds {}; expected floats: convert it with array.astype('float32')", shown(path),
                            flag, stored));
  }
  if (tensor.dtype() == dtype) return std::move(tensor);
  conversions.push_back(fmt::format("{} {} -> {}", flag, stored, name_of(dtype)));
  return convert(std::as_const(tensor).view(), dtype);
}

Tensor load_lengths(const std::string& path) {
  auto [tensor, stored] = load_tensor(path, {"lengths"});
  if (tensor.rank() != 1 || is_floating(tensor.dtype())) {
    throw Error(
        fmt::format("{}: --lengths holds {} ({}); expected whole numbers of shape (B): save them by "
                    "numpy.save(path, array.astype('int64'))",
                    shown(path), stored, fmt::join(tensor.extents(), ", ")));
  }
  return std::move(tensor);
}

bool is_regular(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode);
}

// A pipe's bytes are gone when they have been read, and a second reader would wait for ever.
void refuse_shared_streams(const FileFlags& flags) {
  const std::array<std::pair<const char*, const std::string*>, 4> inputs = {
      std::pair{"--weights", &flags.weights}, std::pair{"--input", &flags.input}, std::pair{"--h0", &flags.h0},
      std::pair{"--lengths", &flags.lengths}};
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    for (std::size_t j = i + 1; j < inputs.size(); ++j) {
      const std::string& a = *inputs[i].second;
      const std::string& b = *inputs[j].second;
      const bool stream = a == kStream || !is_regular(path_of(a, "/dev/stdin"));
      if (a.empty() || b.empty() || !stream || !same_file(path_of(a, "/dev/stdin"), path_of(b, "/dev/stdin"))) continue;
      throw Error(fmt::format("{} and {}: both read {}, which can be read once; give one of them a file",
                              inputs[i].first, inputs[j].first, a == kStream ? "standard input" : a));
    }
  }
}

}  // namespace

HostInputs load_inputs(const FileFlags& flags, DType dtype, std::vector<std::string>& conversions) {
  HostInputs inputs;
  inputs.x = load_values("--input", flags.input, {"x", "input", "output"}, dtype, conversions);
  if (!flags.h0.empty()) inputs.h0 = load_values("--h0", flags.h0, {"h0", "h_n"}, dtype, conversions);
  if (!flags.lengths.empty()) inputs.lengths = load_lengths(flags.lengths);
  return inputs;
}

Tensor load_gradient(const std::string& flag, const std::string& value, const std::vector<std::string_view>& names,
                     DType dtype, std::vector<std::string>& conversions) {
  return load_values(flag, value, names, dtype, conversions);
}

Weights load_model(const FileFlags& flags, DType dtype, std::vector<std::string>& conversions) {
  refuse_shared_streams(flags);
  Weights weights =
      read_weights(open_input(flags.weights), {.prefix = flags.prefix, .reset_after = !flags.reset_before});
  const Config& config = weights.config();
  const DType arithmetic = has_16_bits(dtype) ? DType::float32 : dtype;  // what weights become; 16 bits do so exactly
  std::set<std::string> stored;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (std::int64_t d = 0; d < config.num_directions(); ++d) {
      const CellWeights& cell = weights.cell(layer, d);
      for (const ConstTensorView& view : {cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh}) {
        if (view.given() && view.dtype != dtype && view.dtype != arithmetic) stored.emplace(name_of(view.dtype));
      }
    }
  }
  if (!stored.empty())
    conversions.push_back(fmt::format("--weights {} -> {}", fmt::join(stored, " and "), name_of(arithmetic)));
  return weights;
}

void check_files(const FileFlags& flags, const HostInputs& inputs, const Config& config, const PlanOptions& options) {
  try {
    check_inputs(inputs, config, options);
  } catch (const Error& error) {
    // "gru::Plan::execute: h0: expected ...": the library knows the call, here the tensors come from files.
    const std::string_view message = error.what();
    const std::size_t colon = message.find(": ");
    const std::string_view rest = message.substr(colon == std::string_view::npos ? message.size() : colon + 2);
    const std::array<std::tuple<std::string_view, std::string_view, const std::string*>, 3> names = {
        std::tuple{"x: ", "--input", &flags.input}, std::tuple{"h0: ", "--h0", &flags.h0},
        std::tuple{"lengths: ", "--lengths", &flags.lengths}};
    for (const auto& [name, option, path] : names) {
      if (rest.starts_with(name) && !path->empty()) {
        throw Error(fmt::format("{}: {}: {}", shown(*path), option, rest.substr(name.size())));
      }
    }
    throw;
  }
}

bool same_file(const std::string& a, const std::string& b) {
  if (a == kStream && b == kStream) return true;
  const std::string a_path = path_of(a, "/dev/stdout");
  const std::string b_path = path_of(b, "/dev/stdout");
  struct stat a_status {};
  struct stat b_status {};
  const bool a_there = ::stat(a_path.c_str(), &a_status) == 0;
  // Many may write to one device, such as /dev/null.
  if (a_there && S_ISCHR(a_status.st_mode)) return false;
  if (follow_links(a_path) == follow_links(b_path)) return true;
  if (!a_there || ::stat(b_path.c_str(), &b_status) != 0) return false;
  return a_status.st_dev == b_status.st_dev && a_status.st_ino == b_status.st_ino;
}

bool writes_stdout(const std::string& output) {
  return output == kStream || descriptor_named_by(output) == STDOUT_FILENO;
}

void check_output(const std::string& output, DType dtype) {
  if (output == kStream) {
    const OutputFile probe = OutputFile::standard_output();
  } else {
    check_writable(output);
  }
  if (!output.ends_with(kSafetensors) && npy_type_of(dtype) == nullptr) {
    throw Error(
        fmt::format("{}: NumPy has no type for {}; name a file that ends in .safetensors", output, name_of(dtype)));
  }
}

OutputFile stage_output(const std::string& output, const std::string& name, const Tensor& tensor) {
  if (output == kStream) {
    OutputFile file = OutputFile::standard_output();
    write_npy(file, tensor);
    return file;
  }
  if (!output.ends_with(kSafetensors)) return stage_npy(output, tensor);
  const std::array<std::pair<std::string, Tensor>, 1> tensors = {std::pair{name, tensor}};
  return stage_safetensors(output, tensors);
}

}  // namespace gru::cli
