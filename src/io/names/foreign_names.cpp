// SPDX-License-Identifier: Apache-2.0
#include "io/names/foreign_names.hpp"

#include <algorithm>
#include <array>

#include "format.hpp"
#include "io/file.hpp"

namespace gru {
namespace {

// A library's GRU by two of its names, each the end of a tensor's path; "/" stands for any separator.
struct Foreign {
  std::array<std::string_view, 2> ends;
  std::string_view what;
};
constexpr std::array kForeign = {
    Foreign{
        {"recurrent_kernel", "kernel"},
        "a GRU with Keras' names (kernel (I, 3H), recurrent_kernel (H, 3H), bias (2, 3H); the gates stand in columns, "
        "in the order z, r, n): weight_ih_l0 is kernel.T with its rows in the order r, z, n, weight_hh_l0 is "
        "recurrent_kernel.T likewise, bias_ih_l0 and bias_hh_l0 are the two rows of bias likewise"},
    Foreign{{"Wx", "Wh"},
            "a GRU with MLX' names (Wx (3H, I), Wh (3H, H), b (3H), bhn (H); the gates in the order r, z, n as here): "
            "weight_ih_l0 is Wx, weight_hh_l0 is Wh, bias_ih_l0 is b, bias_hh_l0 is 2H zeros and then bhn"},
    Foreign{{"hr/kernel", "hz/kernel"},
            "a GRU with Flax' names (ir, iz, in, hr, hz, hn, each with kernel (in, out) and bias): weight_ih_l0 is the "
            "three kernels ir, iz, in, each transposed, one below the other, weight_hh_l0 is hr, hz, hn likewise, "
            "bias_ih_l0 is the biases of ir, iz, in, bias_hh_l0 is 2H zeros and then the bias of hn"},
    Foreign{
        {"dense_h/kernel", "dense_i/kernel"},
        "a GRU with Flax NNX' names (dense_i, dense_h, each with kernel (in, 3H); the gates in the order r, z, n): "
        "weight_ih_l0 is dense_i's kernel.T, weight_hh_l0 is dense_h's kernel.T, bias_ih_l0 and bias_hh_l0 are their "
        "biases, zeros where there is none"},
    Foreign{
        {"gates/kernel", "candidate/kernel"},
        "a GRU with TensorFlow 1's names (gates/kernel (I + H, 2H) with r, z in columns, candidate/kernel (I + H, H)): "
        "the first I rows of both, transposed, are weight_ih_l0, the last H rows weight_hh_l0, and the reset gate "
        "comes before the product: --reset-before"},
    Foreign{{"w_i", "w_h"},
            "a GRU with Haiku's names (w_i (I, 3H), w_h (H, 3H), b (3H); the gates stand in columns, in the order z, "
            "r, n, and "
            "z is one minus z here): weight_ih_l0 is w_i.T with its rows in the order r, z, n and those of z negated, "
            "weight_hh_l0 and bias_ih_l0 are w_h.T and b likewise, and the reset gate comes before the product: "
            "--reset-before"},
    Foreign{
        {"update_gate/input_transform/weight", "reset_gate/input_transform/weight"},
        "a GRU with Burn's names (reset_gate, update_gate, new_gate, each with input_transform and hidden_transform): "
        "weight_ih_l0 is the three input transforms in that order, each transposed, one below the other, weight_hh_l0 "
        "the hidden ones; compare a result with Burn's own"},
    Foreign{
        {"W", "R"},
        "a GRU with ONNX' names (W (D, 3H, I), R (D, 3H, H), B (D, 6H); the gates in the order z, r, n): weight_ih_l0 "
        "is W[0] with its rows in the order r, z, n, weight_hh_l0 is R[0] likewise, bias_ih_l0 and bias_hh_l0 are the "
        "two halves of B[0] likewise; linear_before_reset = 0 is --reset-before"},
};
constexpr std::string_view kAdvice = "; docs/files.md has the lines that convert it";

// Path separators as "/", and without TensorFlow's ":0".
std::string normal(std::string name) {
  if (name.ends_with(":0")) name.resize(name.size() - 2);
  std::ranges::replace(name, '.', '/');
  return name;
}

bool ends_path(const std::string& name, std::string_view end) {
  if (!name.ends_with(end)) return false;
  return name.size() == end.size() || name[name.size() - end.size() - 1] == '/';
}

}  // namespace

std::string foreign_names(const std::vector<TensorInfo>& tensors) {
  std::vector<std::string> names;
  for (const TensorInfo& tensor : tensors) names.push_back(normal(tensor.name));
  for (const Foreign& foreign : kForeign) {
    const bool all = std::ranges::all_of(foreign.ends, [&](std::string_view end) {
      return std::ranges::any_of(names, [&](const std::string& name) { return ends_path(name, end); });
    });
    if (all) return fmt::format("holds {}{}", foreign.what, kAdvice);
  }
  for (const std::string& name : names) {
    if (name.starts_with("onnx::GRU")) {
      return fmt::format("holds {}, under names that the export made up ('{}'){}", kForeign.back().what,
                         printable(name), kAdvice);
    }
  }
  return {};
}

std::string foreign_biases(const std::vector<TensorInfo>& tensors, std::string_view prefix) {
  const auto has = [&](std::string_view last) {
    return std::ranges::any_of(tensors, [&](const TensorInfo& tensor) {
      return tensor.name.size() == prefix.size() + last.size() && tensor.name.starts_with(prefix) &&
             tensor.name.ends_with(last);
    });
  };
  if (!has("bias_n") || has("bias_ih") || has("bias_ih_l0")) return {};
  return fmt::format(
      "holds a GRU with Equinox' names ('{0}weight_ih', '{0}weight_hh', '{0}bias' (3H), '{0}bias_n' (H)): store the "
      "biases "
      "as bias_ih, which is bias, and as bias_hh, which is 2H zeros and then bias_n{1}",
      printable(prefix), kAdvice);
}

}  // namespace gru
