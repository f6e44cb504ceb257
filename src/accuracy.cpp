// SPDX-License-Identifier: Apache-2.0
#include "accuracy.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>

#include "gru/error.hpp"

namespace gru {
namespace {

constexpr double kShake = 1e-7;  // far above float64's rounding, far below where the GRU bends
constexpr int kShakes = 3;
// Rounding errors are random and `Condition` is an average over random signs; the largest of many elements lies a few
// standard deviations out.
constexpr double kSafety = 4;
constexpr std::int64_t kLongestChain = 2048;

class Shaker {
 public:
  explicit Shaker(std::uint64_t seed) : engine_(seed) {}
  double operator()(double v) { return v * ((engine_() >> 63U) != 0 ? 1 + kShake : 1 - kShake); }
  std::vector<double> operator()(std::vector<double> values) {
    for (double& v : values) v = (*this)(v);
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

Weights shaken(const Weights& weights, Shaker& shake) {
  auto storage = std::make_shared<std::vector<std::vector<double>>>();
  const auto one = [&](const ConstTensorView& view) {
    if (!view.given()) return ConstTensorView{};
    storage->push_back(shake(to_vector<double>(view)));
    return ConstTensorView{storage->back().data(), DType::float64, view.rank, view.extents,
                           contiguous_strides(view.rank, view.extents)};
  };
  const Config& config = weights.config();
  std::vector<CellWeights> cells;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (std::int64_t d = 0; d < config.num_directions(); ++d) {
      const CellWeights& c = weights.cell(layer, d);
      cells.push_back({one(c.weight_ih), one(c.weight_hh), one(c.bias_ih), one(c.bias_hh)});
    }
  }
  return {config, std::move(cells), storage};
}

}  // namespace

double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::float64: return 0x1p-53;
    case DType::float32: return 0x1p-24;
    case DType::float16: return 0x1p-11;
    case DType::bfloat16: return 0x1p-8;
    default: throw Error("gru::unit_roundoff: an integer is not rounded");
  }
}

double unit_roundoff(Math math, DType dtype) {
  switch (math) {
    case Math::strict: return unit_roundoff(dtype);
    case Math::tf32x3: return 0x1p-22;  // two parts of 11 bits; what both leave out is dropped
    case Math::tf32:
    case Math::fp16: return unit_roundoff(DType::float16);  // both keep 10 mantissa bits
    case Math::bf16: return unit_roundoff(DType::bfloat16);
  }
  throw Error("gru::unit_roundoff: unknown math mode");
}

Condition measure_condition(const OracleRun& run, const Weights& weights, const std::vector<double>& x,
                            const std::vector<double>& h0, std::span<const double> results) {
  Condition worst;
  for (int i = 0; i < kShakes; ++i) {
    Shaker shake(static_cast<std::uint64_t>(i) + 1);
    const Weights moved_weights = shaken(weights, shake);
    const std::vector<double> moved = run(moved_weights, shake(x), shake(h0));
    double changes = 0;
    double norm = 0;
    for (std::size_t k = 0; k < results.size(); ++k) {
      const double change = std::abs(moved[k] - results[k]);
      if (!std::isfinite(change)) continue;
      worst.element = std::max(worst.element, change / kShake);
      changes += change * change;
      norm += results[k] * results[k];
    }
    if (norm > 0) worst.l2 = std::max(worst.l2, std::sqrt(changes / norm) / kShake);
  }
  return worst;
}

Tolerance tolerance(const Problem& problem, std::int64_t steps, const Condition& condition, double largest_state) {
  const Config& config = problem.config;
  const DType dtype = problem.options.dtype;
  const DType sums = has_16_bits(dtype) ? DType::float32 : dtype;
  const double u = unit_roundoff(sums);
  const double u_factors = unit_roundoff(problem.options.math, sums);
  const double storing = has_16_bits(dtype) ? unit_roundoff(dtype) : 0;  // results are rounded once
  // Summing n products one after another loses sqrt(n) times what rounding the products loses. Longer sums than kLongestChain
  // are made of parts, and lose no more than one of that length.
  const std::int64_t inputs = std::max(config.input_size, config.num_directions() * config.hidden_size);
  const double summing =
      std::sqrt(static_cast<double>(std::min(inputs, kLongestChain) + std::min(config.hidden_size, kLongestChain)));
  // The gates' own functions and the new state are rounded once a step, at the state's size; a state may be kept
  // forever.
  const double keeping = std::sqrt(static_cast<double>(steps * config.num_layers));
  const auto bound = [&](double sensitivity, double size) {
    return kSafety * (u_factors * sensitivity + u * (summing * sensitivity + keeping * size)) + storing * size;
  };
  return {bound(condition.element, std::max(1.0, largest_state)), bound(condition.l2, 1.0)};
}

Tolerance with_smallest_values(Tolerance t, DType dtype, std::span<const double> expected) {
  if (dtype != DType::float16) return t;  // the others' smallest values lie far below any state
  double norm = 0;
  for (const double e : expected) norm += std::isfinite(e) ? e * e : 0;
  constexpr double kHalfSpacing = 0x1p-25;  // below 2^-14 float16 rounds to multiples of 2^-24
  t.element += kHalfSpacing;
  if (norm > 0) t.l2 += kHalfSpacing * std::sqrt(static_cast<double>(expected.size()) / norm);
  return t;
}

double gradient_l2_bar(DType dtype, Training training, std::span<const double> expected) {
  if (dtype == DType::float64) return 1e-12;
  constexpr double kSums = 3e-6;
  if (!has_16_bits(dtype)) return kSums;
  const int roundings = training == Training::remake_gates ? 2 : 1;
  return with_smallest_values({0, kSums + roundings * unit_roundoff(dtype)}, dtype, expected).l2;
}

bool has_strict_bar(Math math) { return math == Math::strict || math == Math::tf32x3; }

double strict_l2_bar(DType dtype) {
  if (dtype == DType::float64) return 1e-13;
  return has_16_bits(dtype) ? 2e-6 + unit_roundoff(dtype) : 2e-6;
}

Comparison compare(std::span<const double> expected, std::span<const double> actual) {
  if (expected.size() != actual.size()) throw Error("gru::compare: the numbers of elements differ");
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  Comparison result;
  double errors = 0;
  double norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double e = expected[i];
    const double a = actual[i];
    if (e == a || (std::isnan(e) && std::isnan(a))) {
      if (std::isfinite(e)) norm += e * e;
      continue;
    }
    const double difference = std::isfinite(e) && std::isfinite(a) ? std::abs(a - e) : kInfinity;
    if (difference > result.worst) {
      result.worst = difference;
      result.index = i;
      result.expected = e;
      result.actual = a;
    }
    errors += difference * difference;
    if (std::isfinite(e)) norm += e * e;
  }
  if (errors > 0) result.relative_l2 = norm > 0 ? std::sqrt(errors / norm) : kInfinity;
  return result;
}

}  // namespace gru
