// SPDX-License-Identifier: Apache-2.0
#include "io/names/derived_weights.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "format.hpp"
#include "io/file.hpp"

namespace gru {
namespace {

using Kind = DerivedWeight::Kind;

constexpr std::string_view kRemoveParametrization =
    "call torch.nn.utils.parametrize.remove_parametrizations(module, name) before state_dict()";

/// Finds parts by the endings that torch gives them.
class Search {
 public:
  explicit Search(std::vector<TensorInfo>& tensors) : tensors_(tensors) {
    for (std::size_t i = 0; i < tensors.size(); ++i) places_.emplace(tensors[i].name, i);
  }

  std::vector<DerivedWeight> run() {
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      const std::string name = tensors_[i].name;
      const std::size_t dot = name.rfind('.');
      const std::string prefix = name.substr(0, dot == std::string::npos ? 0 : dot + 1);
      const std::string last = name.substr(prefix.size());
      if (last == "original" || last == "original0") {
        parametrization(prefix, i);
        continue;
      }
      for (const std::string_view ending : {"_v", "_orig", "_raw"}) {
        if (!last.ends_with(ending)) continue;
        const std::string base = last.substr(0, last.size() - ending.size());
        if (is_gru_name(base)) by_ending(prefix, base, ending, i);
      }
    }
    return std::move(found_);
  }

 private:
  std::optional<std::size_t> at(const std::string& name) const {
    const auto found = places_.find(name);
    return found == places_.end() ? std::nullopt : std::optional(found->second);
  }

  void add(Kind kind, const std::string& name, std::vector<std::size_t> parts, std::size_t shaped_like) {
    DerivedWeight weight;
    weight.kind = kind;
    weight.info.name = name;
    weight.info.extents = tensors_[shaped_like].extents;
    weight.info.dtype = tensors_[shaped_like].dtype == DType::float64 ? DType::float64 : DType::float32;
    weight.info.dtype_name = std::string(name_of(*weight.info.dtype));
    weight.parts = std::move(parts);
    if (const std::string problem = problem_of(weight); !problem.empty()) set_problem(weight, problem);
    found_.push_back(std::move(weight));
  }
  void add_problem(const std::string& name, std::size_t shaped_like, const std::string& problem) {
    add(Kind::unknown, name, {}, shaped_like);
    found_.back().info.problem = problem;
  }
  static void set_problem(DerivedWeight& weight, const std::string& problem) {
    weight.kind = Kind::unknown;
    weight.info.problem = problem;
  }

  void by_ending(const std::string& prefix, const std::string& base, std::string_view ending, std::size_t i) {
    const std::string plain = prefix + base;
    if (ending == "_raw") return drop(prefix, base, i);
    if (at(plain)) return;  // there it is
    if (ending == "_v") {
      if (const auto g = at(plain + "_g")) add(Kind::weight_norm, plain, {*g, i}, i);
      return;  // a spectral norm's _v, or something else
    }
    const auto mask = at(plain + "_mask");
    const auto u = at(plain + "_u");
    const auto v = at(plain + "_v");
    if (mask && !u) return add(Kind::masked, plain, {i, *mask}, i);
    if (u && v && !mask) return add(Kind::spectral_norm, plain, {i, *u, *v}, i);
    add_problem(
        plain, i,
        fmt::format("is stored as '{}_orig', which pruning or spectral norm of torch left, without what it is "
                    "computed with; call torch.nn.utils.prune.remove or remove_spectral_norm before state_dict()",
                    printable(plain)));
  }

  // Weight drop keeps the weight as "_raw", and a copy with some elements dropped under the plain name, here or in the
  // module that it wraps.
  void drop(const std::string& prefix, const std::string& base, std::size_t i) {
    const std::string within = prefix + "module.";
    const bool wraps = std::ranges::any_of(tensors_, [&](const TensorInfo& tensor) {
      return tensor.name.starts_with(within) && is_gru_name(std::string_view(tensor.name).substr(within.size()));
    });
    const std::string plain = (wraps ? within : prefix) + base;
    if (const auto copy = at(plain)) tensors_[*copy].name.clear();
    add(Kind::copy, plain, {i}, i);
  }

  // prefix: "gru.parametrizations.weight_hh_l0.".
  void parametrization(const std::string& prefix, std::size_t i) {
    constexpr std::string_view kFolder = "parametrizations.";
    const std::size_t folder = prefix.rfind(kFolder);
    if (folder == std::string::npos || prefix.size() < folder + kFolder.size() + 2) return;
    if (folder > 0 && prefix[folder - 1] != '.') return;
    const std::string base = prefix.substr(folder + kFolder.size(), prefix.size() - folder - kFolder.size() - 1);
    const std::string plain = prefix.substr(0, folder) + base;
    if (!is_gru_name(base) || at(plain)) return;
    const auto second = at(prefix + "original1");
    const std::string more = first_of_parametrization(prefix, second.has_value());
    if (second && more.empty() && !at(prefix + "original2"))
      return add(Kind::weight_norm, plain, {i, *second}, *second);
    const auto u = at(prefix + "0._u");
    const auto v = at(prefix + "0._v");
    if (u && v && more.empty()) return add(Kind::spectral_norm, plain, {i, *u, *v}, i);
    add_problem(
        plain, i,
        fmt::format("is parametrized, and how is not in the file{}; {}",
                    more.empty() ? "" : fmt::format(" (it holds '{}' too)", printable(more)), kRemoveParametrization));
  }

  // A tensor of a parametrization that is none of a weight norm's or a spectral norm's; empty if there is none.
  std::string first_of_parametrization(const std::string& prefix, bool weight_norm) const {
    for (const TensorInfo& tensor : tensors_) {
      if (!tensor.name.starts_with(prefix)) continue;
      const std::string_view rest = std::string_view(tensor.name).substr(prefix.size());
      const bool expected = rest.starts_with("original") || (!weight_norm && (rest == "0._u" || rest == "0._v"));
      if (!expected) return tensor.name;
    }
    return {};
  }

  // What keeps the parts from being computed with; empty if nothing.
  std::string problem_of(const DerivedWeight& weight) const {
    for (const std::size_t part : weight.parts) {
      const TensorInfo& tensor = tensors_[part];
      if (!tensor.dtype || *tensor.dtype == DType::int32 || *tensor.dtype == DType::int64) {
        return fmt::format("is computed with '{}', which holds {}; expected float32, float64, float16 or bfloat16",
                           printable(tensor.name), printable(tensor.dtype_name));
      }
    }
    const std::vector<std::int64_t>& w = weight.info.extents;
    const auto extents_of = [&](std::size_t part) { return tensors_[weight.parts[part]].extents; };
    const auto misfit = [&](std::size_t part) {
      return fmt::format("is computed with '{}', whose extents do not fit; {}",
                         printable(tensors_[weight.parts[part]].name), kRemoveParametrization);
    };
    if (w.empty() || w.size() > 2) return "is of a rank that no weight or bias of a GRU has";
    switch (weight.kind) {
      case Kind::weight_norm: return is_norm_of(extents_of(0), w) ? "" : misfit(0);
      case Kind::masked: return extents_of(1) == w ? "" : misfit(1);
      case Kind::spectral_norm: {
        using Extents = std::vector<std::int64_t>;
        const bool rows = w.size() == 2 && extents_of(1) == Extents{w[0]} && extents_of(2) == Extents{w[1]};
        const bool columns = w.size() == 2 && extents_of(1) == Extents{w[1]} && extents_of(2) == Extents{w[0]};
        return rows || columns ? "" : misfit(1);
      }
      case Kind::copy:
      case Kind::unknown: return {};
    }
    return {};
  }

  // One norm for each row, each column, or all of w.
  static bool is_norm_of(const std::vector<std::int64_t>& g, const std::vector<std::int64_t>& w) {
    if (std::ranges::all_of(g, [](std::int64_t extent) { return extent == 1; }) && g.size() <= w.size()) return true;
    if (g.size() != w.size()) return false;
    if (w.size() == 1) return g == w;
    return (g[0] == w[0] && g[1] == 1) || (g[0] == 1 && g[1] == w[1]);
  }

  std::vector<TensorInfo>& tensors_;
  std::unordered_map<std::string, std::size_t> places_;
  std::vector<DerivedWeight> found_;
};

struct Matrix {
  std::size_t rows, columns;
};

// Which norm an element belongs to, by the extents of g.
std::size_t norm_of(const ConstTensorView& g, const Matrix& m, std::size_t row, std::size_t column) {
  if (g.size() <= 1) return 0;
  return static_cast<std::size_t>(g.extents[0]) == m.rows ? row : column;
}

void apply_weight_norm(const ConstTensorView& g_view, const Matrix& m, std::vector<double>& v) {
  const std::vector<double> g = to_vector<double>(g_view);
  std::vector<double> squares(g.size(), 0.0);
  for (std::size_t i = 0; i < v.size(); ++i) squares[norm_of(g_view, m, i / m.columns, i % m.columns)] += v[i] * v[i];
  for (std::size_t i = 0; i < v.size(); ++i) {
    const std::size_t at = norm_of(g_view, m, i / m.columns, i % m.columns);
    v[i] *= g[at] / std::sqrt(squares[at]);
  }
}

void apply_spectral_norm(const ConstTensorView& u_view, const ConstTensorView& v_view, const Matrix& m,
                         std::vector<double>& w) {
  const std::vector<double> u = to_vector<double>(u_view);
  const std::vector<double> v = to_vector<double>(v_view);
  const bool by_rows = u.size() == m.rows;
  double sigma = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    const std::size_t row = i / m.columns;
    const std::size_t column = i % m.columns;
    sigma += by_rows ? u[row] * w[i] * v[column] : u[column] * w[i] * v[row];
  }
  for (double& value : w) value /= sigma;
}

}  // namespace

std::vector<DerivedWeight> find_derived_weights(std::vector<TensorInfo>& tensors) { return Search(tensors).run(); }

Tensor compute_derived_weight(const DerivedWeight& weight, const std::vector<ConstTensorView>& parts) {
  const std::vector<std::int64_t>& extents = weight.info.extents;
  const Matrix m{static_cast<std::size_t>(extents.front()),
                 extents.size() > 1 ? static_cast<std::size_t>(extents.back()) : std::size_t{1}};
  std::vector<double> values = to_vector<double>(parts[weight.kind == Kind::weight_norm ? 1 : 0]);
  switch (weight.kind) {
    case Kind::weight_norm: apply_weight_norm(parts[0], m, values); break;
    case Kind::spectral_norm: apply_spectral_norm(parts[1], parts[2], m, values); break;
    case Kind::masked: {
      const std::vector<double> mask = to_vector<double>(parts[1]);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] *= mask[i];
      break;
    }
    case Kind::copy:
    case Kind::unknown: break;
  }
  Tensor plain(*weight.info.dtype, extents);
  if (*weight.info.dtype == DType::float64) {
    std::ranges::copy(values, plain.data<double>());
  } else {
    std::ranges::transform(values, plain.data<float>(), [](double value) { return static_cast<float>(value); });
  }
  return plain;
}

}  // namespace gru
