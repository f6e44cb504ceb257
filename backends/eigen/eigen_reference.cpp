// SPDX-License-Identifier: Apache-2.0
#include "backends/eigen/eigen_reference.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <vector>

#include "backends/eigen/matrices.hpp"

// Equations: torch.nn.GRU's documentation (reset-after) and ONNX GRU with linear_before_reset = 0 (reset-before), after
// Cho et al. 2014.

namespace gru {
namespace eigen {
namespace {

Gate read_gate(const CellWeights& cell, Eigen::Index which, Eigen::Index hidden) {
  using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto rows = [&](const ConstTensorView& view) -> Matrix {
    const std::vector<double> all = to_vector<double>(view);
    const Eigen::Index columns = view.rank == 2 ? view.extents[1] : 1;
    return Eigen::Map<const RowMajor>(all.data(), 3 * hidden, columns).middleRows(which * hidden, hidden);
  };
  const auto bias = [&](const ConstTensorView& view) -> Eigen::VectorXd {
    return view.given() ? Eigen::VectorXd(rows(view)) : Eigen::VectorXd(Eigen::VectorXd::Zero(hidden));
  };
  return {rows(cell.weight_ih), rows(cell.weight_hh), bias(cell.bias_ih), bias(cell.bias_hh)};
}

Matrix sigmoid(const Matrix& a) { return (1.0 + (-a.array()).exp()).inverse(); }

Matrix affine(const Matrix& w, const Eigen::VectorXd& b, const Matrix& x) { return (w * x).colwise() + b; }

}  // namespace

Gates gates_of(const Cell& c, bool reset_after, const Matrix& x, const Matrix& h) {
  const Matrix r = sigmoid(affine(c.r.w_i, c.r.b_i, x) + affine(c.r.w_h, c.r.b_h, h));
  const Matrix z = sigmoid(affine(c.z.w_i, c.z.b_i, x) + affine(c.z.w_h, c.z.b_h, h));
  const Matrix hn = reset_after ? affine(c.n.w_h, c.n.b_h, h) : Matrix(Matrix::Zero(h.rows(), h.cols()));
  const Matrix reset = reset_after ? Matrix(r.cwiseProduct(hn)) : affine(c.n.w_h, c.n.b_h, r.cwiseProduct(h));
  const Matrix n = (affine(c.n.w_i, c.n.b_i, x) + reset).array().tanh();
  return {r, z, n, hn};
}

double get_element(const ConstTensorView& v, Eigen::Index i, Eigen::Index j, Eigen::Index k) {
  const auto at = i * v.strides[0] + j * v.strides[1] + k * v.strides[2];
  switch (v.dtype) {
    case DType::float16: return double{to_float(v.as<Float16>()[at])};
    case DType::bfloat16: return double{to_float(v.as<BFloat16>()[at])};
    case DType::float32: return double{v.as<float>()[at]};
    default: return v.as<double>()[at];
  }
}
void set_element(const TensorView& v, Eigen::Index i, Eigen::Index j, Eigen::Index k, double value) {
  const auto at = i * v.strides[0] + j * v.strides[1] + k * v.strides[2];
  switch (v.dtype) {
    // By way of float: what a double holds beyond it moves no result by more than 2^-24 of itself.
    case DType::float16: v.as<Float16>()[at] = rounded_to<Float16>(static_cast<float>(value)); break;
    case DType::bfloat16: v.as<BFloat16>()[at] = rounded_to<BFloat16>(static_cast<float>(value)); break;
    case DType::float32: v.as<float>()[at] = static_cast<float>(value); break;
    default: v.as<double>()[at] = value; break;
  }
}

Matrix read_slice(const ConstTensorView& v, Eigen::Index i) {
  return Matrix::NullaryExpr(v.extents[2], v.extents[1],
                             [&](Eigen::Index feature, Eigen::Index b) { return get_element(v, i, b, feature); });
}
void write_slice(const TensorView& v, Eigen::Index i, const Matrix& m) {
  for (Eigen::Index b = 0; b < m.cols(); ++b) {
    for (Eigen::Index feature = 0; feature < m.rows(); ++feature) set_element(v, i, b, feature, m(feature, b));
  }
}

std::vector<Eigen::Index> read_lengths(const ConstTensorView& lengths, Eigen::Index steps, Eigen::Index batch) {
  std::vector<Eigen::Index> all(static_cast<std::size_t>(batch), steps);
  for (std::size_t b = 0; lengths.given() && b < all.size(); ++b) {
    const auto at = static_cast<Eigen::Index>(b) * lengths.strides[0];
    all[b] = lengths.dtype == DType::int32 ? lengths.as<std::int32_t>()[at] : lengths.as<std::int64_t>()[at];
  }
  return all;
}

Matrix dropout_mask(const Dropout& dropout, Eigen::Index layer, Eigen::Index t, Eigen::Index steps, Eigen::Index width,
                    Eigen::Index batch) {
  return Matrix::NullaryExpr(width, batch, [&](Eigen::Index j, Eigen::Index b) {
    const auto index = static_cast<std::uint64_t>(((layer * steps + t) * batch + b) * width + j);
    return dropout.keeps(index) ? dropout.scale : 0.0;
  });
}

namespace {

// One direction of one layer. Writes rows [first, first + H) of each step of `output`; returns the last state. `kept` gets
// the gates of the cell `row`, if it is given.
Matrix run_direction(const Cell& cell, bool reset_after, bool reverse, const Sequence& input, Matrix h,
                     const std::vector<Eigen::Index>& lengths, Eigen::Index first, Sequence& output, const Kept* kept,
                     Eigen::Index row) {
  const auto steps = static_cast<Eigen::Index>(input.size());
  for (Eigen::Index s = 0; s < steps; ++s) {
    const Eigen::Index t = reverse ? steps - 1 - s : s;
    const Gates g = gates_of(cell, reset_after, input[static_cast<std::size_t>(t)], h);
    if (kept != nullptr) {
      Eigen::Index which = 0;
      for (const Matrix* gate : {&g.r, &g.z, &g.n, &g.hn}) kept->gate(row, t, which++) = *gate;
    }
    const Matrix next = (1.0 - g.z.array()) * g.n.array() + g.z.array() * h.array();
    Matrix& out = output[static_cast<std::size_t>(t)];
    for (Eigen::Index b = 0; b < h.cols(); ++b) {
      if (t >= lengths[static_cast<std::size_t>(b)]) continue;  // padding: the state stays, output stays 0
      h.col(b) = next.col(b);
      out.col(b).segment(first, h.rows()) = next.col(b);
    }
  }
  return h;
}

}  // namespace
}  // namespace eigen

void set_eigen_weights(EigenWeights& weights, std::span<const CellWeights> cells) {
  const Eigen::Index hidden = weights.config.hidden_size;
  weights.cells.clear();
  for (const CellWeights& cell : cells) {
    weights.cells.push_back(
        {eigen::read_gate(cell, 0, hidden), eigen::read_gate(cell, 1, hidden), eigen::read_gate(cell, 2, hidden)});
  }
}

std::shared_ptr<EigenWeights> pack_eigen_weights(const Weights& weights) {
  auto packed = std::make_shared<EigenWeights>();
  packed->config = weights.config();
  std::vector<CellWeights> cells;
  for (std::int64_t layer = 0; layer < packed->config.num_layers; ++layer) {
    for (std::int64_t d = 0; d < packed->config.num_directions(); ++d) cells.push_back(weights.cell(layer, d));
  }
  set_eigen_weights(*packed, cells);
  return packed;
}

std::size_t eigen_reserve_bytes(const Problem& problem) {
  const Config& c = problem.config;
  const PlanOptions& o = problem.options;
  if (o.training == Training::none) return 0;
  return eigen::Kept{o.training, c.num_layers, c.num_directions(), c.hidden_size, o.seq_len, o.batch_size}.bytes();
}

void run_eigen_reference(const EigenWeights& weights, const PlanOptions& options, const Call& call) {
  using namespace eigen;
  const Config& config = weights.config;
  const Eigen::Index hidden = config.hidden_size;
  const Eigen::Index directions = config.num_directions();
  const Eigen::Index steps = call.x.extents[0];
  const Eigen::Index batch = call.x.extents[1];
  const std::vector<Eigen::Index> lengths = read_lengths(call.lengths, steps, batch);
  const bool keeps = call.reserve.given();
  const Kept kept{
      options.training, config.num_layers, directions, hidden, steps, batch, static_cast<double*>(call.reserve.data)};
  const bool keeps_gates = keeps && options.training == Training::keep_gates;
  const Dropout dropout = Dropout::of(keeps ? options.dropout : 0.0, call.dropout_seed, call.dropout_offset);

  Sequence input;
  for (Eigen::Index t = 0; t < steps; ++t) input.push_back(read_slice(call.x, t));
  for (Eigen::Index layer = 0; layer < config.num_layers; ++layer) {
    Sequence output(input.size(), Matrix::Zero(directions * hidden, batch));
    for (Eigen::Index d = 0; d < directions; ++d) {
      const Eigen::Index row = layer * directions + d;
      const Matrix h0 = call.h0.given() ? read_slice(call.h0, row) : Matrix(Matrix::Zero(hidden, batch));
      const Matrix h_n = run_direction(weights.cells[static_cast<std::size_t>(row)], config.reset_after, d == 1, input,
                                       h0, lengths, d * hidden, output, keeps_gates ? &kept : nullptr, row);
      if (call.h_n.given()) write_slice(call.h_n, row, h_n);
    }
    for (Eigen::Index t = 0; keeps && kept.has_output(layer) && t < steps; ++t) {
      kept.output(layer, t) = output[static_cast<std::size_t>(t)];
    }
    for (Eigen::Index t = 0; dropout.active() && layer + 1 < config.num_layers && t < steps; ++t) {
      Matrix& step = output[static_cast<std::size_t>(t)];
      step = step.cwiseProduct(dropout_mask(dropout, layer, t, steps, directions * hidden, batch));
    }
    input = std::move(output);
  }
  for (std::size_t t = 0; call.output.given() && t < input.size(); ++t) {
    write_slice(call.output, static_cast<Eigen::Index>(t), input[t]);
  }
}

}  // namespace gru
