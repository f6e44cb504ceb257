// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "gru/problem.hpp"
#include "gru/weights.hpp"

// How far a backend may lie from the oracle, in one place: the tests and `gru check` ask here. Not installed.

namespace gru {

/// The largest relative error of one rounding: 2^-24 for float32, 2^-53 for float64, 2^-11 for float16, 2^-8 for bfloat16.
double unit_roundoff(DType dtype);
/// The same for the factors of a product in a math mode: the dtype's own if strict.
double unit_roundoff(Math math, DType dtype);

/// How strongly results react to their data: the change of results per relative change of every weight, input and
/// initial state, measured in float64. It holds what norms of the weights, T and the number of layers do to an error.
struct Condition {
  double element = 0;  ///< max |change of an element| / relative change of the data
  double l2 = 0;       ///< ||change||_2 / ||results||_2 / relative change of the data
};

/// All results of one run in a row, for weights and data of float64.
using OracleRun = std::function<std::vector<double>(const Weights& weights, const std::vector<double>& x,
                                                    const std::vector<double>& h0)>;

/// Shakes all data by random signs of a small relative change, a few times; keeps the worst.
/// `results` are those of the data as they are; elements that are not finite are left out.
Condition measure_condition(const OracleRun& run, const Weights& weights, const std::vector<double>& x,
                            const std::vector<double>& h0, std::span<const double> results);

struct Tolerance {
  double element = 0;  ///< bound on |actual - expected| of each element
  double l2 = 0;       ///< bound on ||actual - expected||_2 / ||expected||_2
};

/// What rounding can explain. `steps`: T of the call; `largest_state`: max |h0|, at least 1.
Tolerance tolerance(const Problem& problem, std::int64_t steps, const Condition& condition, double largest_state = 1);

/// The same where results are stored as `dtype`: float16's values below 2^-14 are rounded to multiples of 2^-24, however small.
Tolerance with_smallest_values(Tolerance tolerance, DType dtype, std::span<const double> expected);

/// Whether a mode promises strict_l2_bar: strict and tf32x3.
bool has_strict_bar(Math math);

/// The bar on the relative L2 error in strict mode at torch's initial scale: 2e-6 for float32, 1e-13 for float64; in 16 bits
/// float32's and one rounding of the results.
double strict_l2_bar(DType dtype);

/// The same for each gradient: 3e-6 for float32, 1e-12 for float64. In 16 bits that and one rounding of the result; where gates
/// are made again from an output that was rounded, one more; and float16's smallest values beside those of `expected`.
double gradient_l2_bar(DType dtype, Training training, std::span<const double> expected = {});

/// Actual beside expected. NaN equals NaN, an infinity equals itself; any other pair that is not finite differs by Inf.
struct Comparison {
  double relative_l2 = 0;
  double worst = 0;       ///< largest |actual - expected|
  std::size_t index = 0;  ///< its place
  double expected = 0;
  double actual = 0;
};
Comparison compare(std::span<const double> expected, std::span<const double> actual);

}  // namespace gru
