// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/tensors/call_tensors.hpp"

#include <cstdint>

#include "backends/cuda/common/launch.hpp"

namespace gru::cuda {
namespace {

Operand operand(const ConstTensorView& view) {
  Operand o{view.data, view.strides[0], view.strides[1], view.strides[2], false};
  const auto bytes = static_cast<std::int64_t>(size_of(view.dtype));
  const auto rows_align = [&](std::int64_t extent, std::int64_t stride) {
    return extent <= 1 || stride * bytes % 16 == 0;
  };
  o.vectors = view.strides[2] == 1 && reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 &&
              rows_align(view.extents[0], view.strides[0]) && rows_align(view.extents[1], view.strides[1]);
  return o;
}

Result result(const TensorView& view) { return {view.data, view.strides[0], view.strides[1], view.strides[2]}; }

}  // namespace

CallTensors call_tensors(const Call& call) {
  CallTensors c;
  c.x = operand(call.x);
  if (call.h0.given()) c.h0 = operand(call.h0);
  if (call.output.given()) c.output = result(call.output);
  if (call.h_n.given()) c.h_n = result(call.h_n);
  if (call.lengths.given()) {
    c.lengths = call.lengths.data;
    c.lengths_stride = call.lengths.strides[0];
    c.lengths_are_64bit = call.lengths.dtype == DType::int64;
  }
  return c;
}

void store_call(StreamRef stream, CallTensors* to, const CallTensors& call) {
  Launch(dim3(1), dim3(1), 0, stream).start(write_call_kernel(), "the launch of write_call", call, to);
}

}  // namespace gru::cuda
