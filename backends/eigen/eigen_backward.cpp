// SPDX-License-Identifier: Apache-2.0
#include <Eigen/Dense>
#include <utility>
#include <vector>

#include "backends/eigen/eigen_reference.hpp"
#include "backends/eigen/matrices.hpp"

// The chain rule through torch.nn.GRU's equations, step by step from the last one. With dh the gradient of h', and a_g the
// argument of gate g:
//     da_z = dh (h - n) z (1 - z)        da_n = dh (1 - z) (1 - n^2)
// reset-after:   da_r = da_n (W_hn h + b_hn) r (1 - r)          the gradient of W_hn h + b_hn is da_n r
// reset-before:  da_r = (W_hn^T da_n) h r (1 - r)               that of W_hn (r h) + b_hn is da_n
// Rows in their padding pass dh on and give nothing.

namespace gru {
namespace {

using namespace eigen;

/// The gradients of one cell's parameters.
struct CellSums {
  Gate r, z, n;

  CellSums(Eigen::Index input, Eigen::Index hidden) {
    for (Gate* gate : {&r, &z, &n}) {
      gate->w_i = Matrix::Zero(hidden, input);
      gate->w_h = Matrix::Zero(hidden, hidden);
      gate->b_i = gate->b_h = Eigen::VectorXd::Zero(hidden);
    }
  }
};

/// d_i and d_h: gradients of W_i x + b_i and of W_h v + b_h.
void add(Gate& sums, const Matrix& d_i, const Matrix& x, const Matrix& d_h, const Matrix& v) {
  sums.w_i += d_i * x.transpose();
  sums.b_i += d_i.rowwise().sum();
  sums.w_h += d_h * v.transpose();
  sums.b_h += d_h.rowwise().sum();
}

/// Zeroes the columns of rows that have ended at time t: whatever stands there, NaN included, reaches nothing.
Matrix without_padding(Matrix m, const std::vector<Eigen::Index>& lengths, Eigen::Index t) {
  for (Eigen::Index b = 0; b < m.cols(); ++b) {
    if (t >= lengths[static_cast<std::size_t>(b)]) m.col(b).setZero();
  }
  return m;
}

/// (3H, columns): the gates r, z, n one below the other.
void store(const TensorView& to, const Matrix& r, const Matrix& z, const Matrix& n, bool accumulate) {
  if (!to.given()) return;
  TensorView m = to;  // as (rows, 1, columns); a bias has one column
  m.strides = {to.strides[0], 0, to.rank == 2 ? to.strides[1] : 0};
  const Eigen::Index hidden = r.rows();
  for (Eigen::Index i = 0; i < 3 * hidden; ++i) {
    const Matrix& gate = i < hidden ? r : i < 2 * hidden ? z : n;
    for (Eigen::Index j = 0; j < r.cols(); ++j) {
      const double before = accumulate ? get_element(m, i, 0, j) : 0.0;
      set_element(m, i, 0, j, before + gate(i % hidden, j));
    }
  }
}

void store(const CellGradients& to, const CellSums& sums, bool accumulate) {
  store(to.weight_ih, sums.r.w_i, sums.z.w_i, sums.n.w_i, accumulate);
  store(to.weight_hh, sums.r.w_h, sums.z.w_h, sums.n.w_h, accumulate);
  store(to.bias_ih, sums.r.b_i, sums.z.b_i, sums.n.b_i, accumulate);
  store(to.bias_hh, sums.r.b_h, sums.z.b_h, sums.n.b_h, accumulate);
}

/// Adds to a slice of a canonical tensor, or overwrites it.
void store_slice(const TensorView& to, Eigen::Index i, const Matrix& m, bool accumulate) {
  if (!to.given()) return;
  write_slice(to, i, accumulate ? Matrix(read_slice(to, i) + m) : m);
}

/// One direction of one layer, from the sequence's end.
struct DirectionBackward {
  const Cell& cell;
  bool reset_after;
  bool reverse;
  const std::vector<Eigen::Index>& lengths;
  const Sequence& input;        ///< T of (I of the layer, B), padding zeroed
  const Sequence& output;       ///< T of (D*H, B)
  const Sequence& grad_output;  ///< T of (D*H, B)
  Matrix h0;                    ///< (H, B)
  Eigen::Index first;           ///< row of this direction in output
  const Kept* kept;             ///< null: make the gates again
  Eigen::Index row;             ///< of the cell

  /// The state before step t: h0 where the direction starts, else the output of the step before.
  Matrix state_before(Eigen::Index t) const {
    Matrix h = h0;
    for (Eigen::Index b = 0; b < h.cols(); ++b) {
      const Eigen::Index before = reverse ? t + 1 : t - 1;
      if (before < 0 || before >= lengths[static_cast<std::size_t>(b)]) continue;
      h.col(b) = output[static_cast<std::size_t>(before)].col(b).segment(first, h.rows());
    }
    return h;
  }

  Gates gates(Eigen::Index t, const Matrix& x, const Matrix& h) const {
    Gates g;
    if (kept == nullptr) {
      g = gates_of(cell, reset_after, x, h);
    } else {
      g = {kept->gate(row, t, 0), kept->gate(row, t, 1), kept->gate(row, t, 2), kept->gate(row, t, 3)};
    }
    for (Matrix* gate : {&g.r, &g.z, &g.n, &g.hn}) *gate = without_padding(std::move(*gate), lengths, t);
    return g;
  }

  /// dh: the gradient of the last state; returns that of h0. Adds to sums and to each step of grad_input.
  Matrix run(Matrix dh, CellSums& sums, Sequence& grad_input) const {
    const auto steps = static_cast<Eigen::Index>(input.size());
    for (Eigen::Index s = steps - 1; s >= 0; --s) {
      const Eigen::Index t = reverse ? steps - 1 - s : s;
      const auto at = static_cast<std::size_t>(t);
      const Matrix& x = input[at];
      const Matrix h = without_padding(state_before(t), lengths, t);
      const Gates g = gates(t, x, h);
      const Matrix d = without_padding(dh + grad_output[at].middleRows(first, h.rows()), lengths, t);
      const Matrix da_z = d.array() * (h - g.n).array() * g.z.array() * (1.0 - g.z.array());
      const Matrix da_n = d.array() * (1.0 - g.z.array()) * (1.0 - g.n.array().square());
      const Matrix d_reset = reset_after ? Matrix(da_n.cwiseProduct(g.hn)) : Matrix(cell.n.w_h.transpose() * da_n);
      const Matrix d_r = reset_after ? d_reset : Matrix(d_reset.cwiseProduct(h));
      const Matrix da_r = d_r.array() * g.r.array() * (1.0 - g.r.array());
      const Matrix d_hn = reset_after ? Matrix(da_n.cwiseProduct(g.r)) : da_n;
      add(sums.r, da_r, x, da_r, h);
      add(sums.z, da_z, x, da_z, h);
      add(sums.n, da_n, x, d_hn, reset_after ? h : Matrix(g.r.cwiseProduct(h)));
      grad_input[at] += cell.r.w_i.transpose() * da_r + cell.z.w_i.transpose() * da_z + cell.n.w_i.transpose() * da_n;
      const Matrix through = reset_after ? Matrix(cell.n.w_h.transpose() * d_hn) : Matrix(d_reset.cwiseProduct(g.r));
      const Matrix before =
          d.cwiseProduct(g.z) + cell.r.w_h.transpose() * da_r + cell.z.w_h.transpose() * da_z + through;
      for (Eigen::Index b = 0; b < dh.cols(); ++b) {
        if (t < lengths[static_cast<std::size_t>(b)]) dh.col(b) = before.col(b);
      }
    }
    return dh;
  }
};

}  // namespace

void run_eigen_backward(const EigenWeights& weights, const PlanOptions& options, const BackwardCall& call) {
  const Config& config = weights.config;
  const Eigen::Index hidden = config.hidden_size;
  const Eigen::Index directions = config.num_directions();
  const Eigen::Index width = directions * hidden;
  const Eigen::Index steps = call.x.extents[0];
  const Eigen::Index batch = call.x.extents[1];
  const std::vector<Eigen::Index> lengths = read_lengths(call.lengths, steps, batch);
  const Kept kept{
      options.training, config.num_layers, directions, hidden, steps, batch, static_cast<double*>(call.reserve.data)};
  const Dropout dropout = Dropout::of(options.dropout, call.dropout_seed, call.dropout_offset);

  const auto outputs = [&](Eigen::Index layer) {
    Sequence all;
    for (Eigen::Index t = 0; t < steps; ++t) {
      all.push_back(kept.has_output(layer) ? Matrix(kept.output(layer, t)) : read_slice(call.output, t));
    }
    return all;
  };
  Sequence grad_output;
  for (Eigen::Index t = 0; t < steps; ++t) {
    grad_output.push_back(call.grad_output.given() ? read_slice(call.grad_output, t)
                                                   : Matrix(Matrix::Zero(width, batch)));
  }
  for (Eigen::Index layer = config.num_layers - 1; layer >= 0; --layer) {
    const Sequence output = outputs(layer);
    Sequence input = layer > 0 ? outputs(layer - 1) : Sequence();
    for (Eigen::Index t = 0; t < steps; ++t) {
      if (layer == 0) input.push_back(read_slice(call.x, t));
      Matrix& x = input[static_cast<std::size_t>(t)];
      if (layer > 0 && dropout.active()) {
        x = x.cwiseProduct(dropout_mask(dropout, layer - 1, t, steps, width, batch));
      }
      x = without_padding(std::move(x), lengths, t);
    }
    const Eigen::Index features = config.layer_input_size(layer);
    Sequence grad_input(input.size(), Matrix::Zero(features, batch));
    for (Eigen::Index d = 0; d < directions; ++d) {
      const Eigen::Index row = layer * directions + d;
      const Matrix none = Matrix::Zero(hidden, batch);
      CellSums sums(features, hidden);
      const DirectionBackward direction{weights.cells[static_cast<std::size_t>(row)],
                                        config.reset_after,
                                        d == 1,
                                        lengths,
                                        input,
                                        output,
                                        grad_output,
                                        call.h0.given() ? read_slice(call.h0, row) : none,
                                        d * hidden,
                                        options.training == Training::keep_gates ? &kept : nullptr,
                                        row};
      const Matrix grad_h0 =
          direction.run(call.grad_h_n.given() ? read_slice(call.grad_h_n, row) : none, sums, grad_input);
      store_slice(call.grad_h0, row, grad_h0, call.accumulate);
      if (!call.cells.empty()) store(call.cells[static_cast<std::size_t>(row)], sums, call.accumulate);
    }
    for (Eigen::Index t = 0; dropout.active() && layer > 0 && t < steps; ++t) {
      Matrix& step = grad_input[static_cast<std::size_t>(t)];
      step = step.cwiseProduct(dropout_mask(dropout, layer - 1, t, steps, width, batch));
    }
    grad_output = std::move(grad_input);
  }
  for (Eigen::Index t = 0; t < steps; ++t) {
    store_slice(call.grad_x, t, grad_output[static_cast<std::size_t>(t)], call.accumulate);
  }
}

}  // namespace gru
