// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Dense>
#include <cstddef>
#include <vector>

#include "gru/call.hpp"
#include "gru/detail/philox.hpp"
#include "gru/training.hpp"
#include "gru/weights.hpp"

// What the oracle's two passes share: matrices, and how tensors become matrices. A state is a column; a sequence is one
// matrix (features, B) a step.

namespace gru::eigen {

using Matrix = Eigen::MatrixXd;
using Sequence = std::vector<Matrix>;  // T entries of (features, B)

struct Gate {
  Matrix w_i;                // (H, I of the layer)
  Matrix w_h;                // (H, H)
  Eigen::VectorXd b_i, b_h;  // (H), zero without bias
};
struct Cell {
  Gate r, z, n;
};

/// One step's gates, each (H, B). hn is W_hn h + b_hn; only reset-after has it.
struct Gates {
  Matrix r, z, n, hn;
};
Gates gates_of(const Cell& cell, bool reset_after, const Matrix& x, const Matrix& h);

/// The element (i, j, k) of a view of three dimensions, as double and back.
double get_element(const ConstTensorView& v, Eigen::Index i, Eigen::Index j, Eigen::Index k);
void set_element(const TensorView& v, Eigen::Index i, Eigen::Index j, Eigen::Index k, double value);

/// Slice i of a canonical tensor (n, B, features) as (features, B), and back.
Matrix read_slice(const ConstTensorView& v, Eigen::Index i);
void write_slice(const TensorView& v, Eigen::Index i, const Matrix& m);

/// (B) lengths; all T if none are given.
std::vector<Eigen::Index> read_lengths(const ConstTensorView& lengths, Eigen::Index steps, Eigen::Index batch);

/// Dropout of `layer`'s output at time t of a call with `steps` steps: 0 or 1 / (1 - p) for each element of (D*H, B).
Matrix dropout_mask(const Dropout& dropout, Eigen::Index layer, Eigen::Index t, Eigen::Index steps, Eigen::Index width,
                    Eigen::Index batch);

/// A reserve as matrices of double, one after the other: of each cell and step the four gates (keep_gates alone), then of each
/// layer and step the output, before dropout; without keep_gates that of inner layers only.
struct Kept {
  Training training;
  Eigen::Index layers, directions, hidden, steps, batch;
  double* data = nullptr;

  std::size_t bytes() const {
    return static_cast<std::size_t>(outputs_begin() + output_layers() * steps * width()) * 8;
  }
  Eigen::Map<Matrix> gate(Eigen::Index cell, Eigen::Index t, Eigen::Index which) const {
    return {data + ((cell * steps + t) * 4 + which) * hidden * batch, hidden, batch};
  }
  bool has_output(Eigen::Index layer) const { return layer < output_layers(); }
  Eigen::Map<Matrix> output(Eigen::Index layer, Eigen::Index t) const {
    return {data + outputs_begin() + (layer * steps + t) * width(), directions * hidden, batch};
  }

 private:
  Eigen::Index width() const { return directions * hidden * batch; }
  Eigen::Index output_layers() const { return training == Training::keep_gates ? layers : layers - 1; }
  Eigen::Index outputs_begin() const {
    return training == Training::keep_gates ? layers * directions * steps * 4 * hidden * batch : 0;
  }
};

}  // namespace gru::eigen

namespace gru {

/// The oracle's matrices, shared by forks.
struct EigenWeights {
  Config config;
  std::vector<eigen::Cell> cells;  // [layer * D + direction]
};

}  // namespace gru
