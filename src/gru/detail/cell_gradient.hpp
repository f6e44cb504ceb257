// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gru/cell.hpp"

namespace gru {

/// The chain rule through one unit of a cell. Derivatives of sigmoid and tanh are those of their results: r (1 - r), z (1 - z),
/// 1 - n^2. d is the gradient of h' = (1 - z) n + z h.
///
/// The gradient of z's argument: d (h - n) z (1 - z).
template <class T>
GRU_FUNCTION T update_gradient(T d, T z, T n, T h) {
  return d * (h - n) * (z * (T(1) - z));
}

/// The gradient of n's argument: d (1 - z) (1 - n^2).
template <class T>
GRU_FUNCTION T candidate_gradient(T d, T z, T n) {
  return d * (T(1) - z) * (T(1) - n * n);
}

/// The gradient of r's argument from that of r: (n's argument's gradient) (W_hn h + b_hn) when the reset gate is applied after
/// the product, (W_hn^T (n's argument's gradient)) h when before it.
template <class T>
GRU_FUNCTION T reset_gradient(T of_r, T r) {
  return of_r * (r * (T(1) - r));
}

}  // namespace gru
