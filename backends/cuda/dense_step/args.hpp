// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the kernels beside the products are told, as plain data. Rows and units are padded to multiples of kUnitPadding;
/// padding of operands and states is zero. Bp is the plan's batch, B the call's. Strides count elements, those of operands
/// features: each is parts_of(Element) numbers.

#include <cstddef>
#include <cstdint>

#include "backends/cuda/dense_step/element.hpp"
#include "backends/cuda/tensors/tensors.hpp"

namespace gru::cuda {

inline constexpr int kUnitPadding = 32;      ///< of H and of a layer's inputs: 64 bytes of two-byte operands
inline constexpr int kElementThreads = 128;  ///< of a block of any of these kernels; a thread has four features
inline constexpr int kElementsAThread = 4;

/// Before the first layer: x and h0 into operands and states.
struct PrepareArgs {
  const CallTensors* call = nullptr;  ///< device memory; null: the kernel's second argument
  void* x = nullptr;                  ///< (T, B, Kp)
  float* states = nullptr;            ///< (L*D, Bp, Hp)
  void* state_operands = nullptr;     ///< (L*D, Bp, Hp)
  void* other_operands = nullptr;     ///< likewise, where steps begin that are not the first; null: not needed
  std::int64_t operand_stride = 0;    ///< from one of the L*D to the next, a multiple of Hp
  std::int64_t input_rows = 0;        ///< T * B
  std::int64_t state_rows = 0;        ///< L*D * B
  int batch = 0, planned_batch = 0, inputs = 0, inputs_padded = 0, hidden = 0, hidden_padded = 0;
  bool x_in_place = false;  ///< whoever multiplies reads call.x itself where its rows are aligned
};

/// The gates of one step in all directions of a layer.
struct GateArgs {
  const CallTensors* call = nullptr;
  const float* product = nullptr;      ///< (D, rows, 3, Hp): W_hh h
  const float* share = nullptr;        ///< W_ih x of (row, gate, unit)
  std::int64_t product_direction = 0;  ///< from direction to direction
  std::int64_t share_direction = 0;
  std::int64_t share_row = 0;            ///< from row to row
  int share_first[2] = {};               ///< the time of share's first row, for each direction
  const float* bias = nullptr;           ///< (D, 4, Hp): b_ir + b_hr, b_iz + b_hz, b_in, b_hn
  float* states = nullptr;               ///< (D, Bp, Hp), old in and new out
  const void* state_operands = nullptr;  ///< (D, Bp, Hp): the old state as the product reads it
  void* new_operands = nullptr;          ///< the new one
  void* between = nullptr;  ///< (T, B, D, Hp): the output as the layer above reads it; null: call.output is written
  int layer = 0, directions = 1, batch = 0, planned_batch = 0, steps = 0, step = 0, hidden = 0, hidden_padded = 0;
  bool last_step = false;
};

/// A step in one launch, products and gates (narrow_step.cu, narrow_ffma.cu, wide_step.cu, wide_ffma.cuh).
struct NarrowArgs {
  GateArgs gates;               ///< share of a recurrent step; product is not used
  const void* w_hh = nullptr;   ///< (D, 3, Hp, Hp)
  const void* w_ih = nullptr;   ///< (D, 3, Hp, Kp); of a fused step
  const float* x = nullptr;     ///< fused, above the first layer: (B, Hp), else null: call.x
  float* new_states = nullptr;  ///< fused: (B, Hp), which the layer above reads; or null
  int inputs = 0;               ///< fused: K
  int inputs_padded = 0;        ///< Kp
  // wide_ffma.cuh alone, which is fused in sequences, too: x is (T, B, Kp) then, and the old state's operands are null where
  // call.h0 is read.
  std::int64_t x_step = 0, x_row = 0;  ///< from time to time, from row to row
  bool x_is_copy = false;              ///< of call.x, which is read itself where its rows are aligned
  const int* order = nullptr;          ///< (Bp) rows by length, then kRowOrderEnds; null: rows as they lie
};

inline constexpr int kNarrowUnits = 8;  ///< of a block
inline constexpr int kNarrowWarps = 8;  ///< share the features
/// Rows of a block, and the shared memory in which its warps' sums meet.
inline constexpr int kNarrowRows[] = {16, 32, 64};
/// Whether an element has such kernels. With the parts of tf32x3 they take longer than FFMA does (H200).
constexpr bool has_one_launch_step(Element element) { return element != Element::tf32x3; }
inline constexpr int kNarrowDepth = 16;  ///< float32: features of a chunk
/// float32: chunks of a warp in shared memory, as many as 99 KB hold.
constexpr int narrow_stages(int rows) { return rows == 16 ? 4 : rows == 32 ? 3 : 2; }
/// float32: blocks of a multiprocessor, as far as its shared memory goes; two are 128 registers a thread each.
constexpr int narrow_blocks(int rows, bool fused) { return rows == 16 && !fused ? 2 : 1; }
constexpr std::size_t narrow_shared_bytes(Element element, int rows, bool fused) {
  const auto wide = static_cast<std::size_t>(rows);
  const std::size_t sums = std::size_t{kNarrowWarps} * (fused ? 4 : 3) * wide * kNarrowUnits * 4;
  if (element != Element::float32) return sums;
  const std::size_t stages = std::size_t{kNarrowWarps} * static_cast<std::size_t>(narrow_stages(rows)) *
                             (wide + 3 * kNarrowUnits) * kNarrowDepth * 4;
  return stages > sums ? stages : sums;
}
static_assert(narrow_shared_bytes(Element::float32, 64, true) <= 99 * 1024 &&
                  narrow_shared_bytes(Element::float32, 32, true) <= 99 * 1024 &&
                  narrow_shared_bytes(Element::float32, 16, true) <= 99 * 1024,
              "more than a block has on sm_89");

/// void(NarrowArgs, CallTensors) for a row count of kNarrowRows, and an element that has it. fused: inputs and state are multiplied, both read as float32;
/// else the state's operands alone.
const void* narrow_step_kernel(Element element, int rows, bool fused);
const void* narrow_ffma_kernel(int rows, bool fused);  ///< that of Element::float32

/// The kernels for one element type.
struct DenseStepKernels {
  const void* prepare;  ///< void(PrepareArgs, CallTensors)
  const void* gates;    ///< void(GateArgs, CallTensors); may come in early, see dependent_launch.cuh
};
DenseStepKernels dense_step_kernels(Element element);

}  // namespace gru::cuda
