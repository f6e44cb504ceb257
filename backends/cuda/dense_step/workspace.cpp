// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/dense_step/workspace.hpp"

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/row_order.hpp"
#include "backends/cuda/common/runtime.hpp"

namespace gru::cuda {

DenseStepWorkspace::DenseStepWorkspace(StreamRef stream, const Problem& problem, const DenseStepSchedule& s) {
  const Config& c = problem.config;
  const std::int64_t batch = problem.options.batch_size, steps = problem.options.seq_len,
                     directions = c.num_directions(), units = s.hidden_padded, element = feature_bytes(s.element);
  const std::int64_t cells = c.num_layers * directions;
  // Products always take as many rows as were planned: portions are whole.
  const std::int64_t padded_steps = round_up(steps, s.portion);
  const auto bytes_of = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  const std::int64_t between_bytes = padded_steps * batch * directions * units * element;
  const std::size_t sizes[] = {
      bytes_of(s.joint ? 2 * cells * batch * units * element : padded_steps * batch * s.inputs_padded(c, 0) * element),
      bytes_of(s.joint ? 0 : cells * batch * units * element),
      bytes_of(s.joint ? 0 : cells * batch * units * element),
      bytes_of(cells * batch * units) * sizeof(float),
      bytes_of(!s.joint && c.num_layers > 1 ? between_bytes : 0),
      bytes_of(!s.joint && c.num_layers > 2 ? between_bytes : 0),
      bytes_of(s.portion * batch * directions * 3 * units) * sizeof(float),
      bytes_of(directions * batch * 3 * units) * sizeof(float),
      bytes_of(batch + kRowOrderEnds) * sizeof(int),
      sizeof(CallTensors)};
  const auto offsets = lay_out(sizes);
  bytes = offsets.back();
  memory_ = allocate(stream, "the plan's workspace", bytes);
  std::byte* const begin = memory_.get();
  x = begin;
  operands[0] = s.joint ? begin + batch * units * element : begin + offsets[1];
  operands[1] = s.joint ? operands[0] : begin + offsets[2];  // a single step has no next
  operand_stride = (s.joint ? 2 : 1) * batch * units;
  states = reinterpret_cast<float*>(begin + offsets[3]);
  between[0] = begin + offsets[4];
  between[1] = begin + offsets[5];
  share = reinterpret_cast<float*>(begin + offsets[6]);
  product = reinterpret_cast<float*>(begin + offsets[7]);
  order = reinterpret_cast<int*>(begin + offsets[8]);
  stored_call = reinterpret_cast<CallTensors*>(begin + offsets[9]);
}

}  // namespace gru::cuda
