// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

// The SIMD micro-kernels as the rest of the program sees them: argument structs and one table of functions per
// instruction set. Kokkos-free and without inline functions on purpose: the files that include this are compiled
// several times for different instruction sets, and the linker keeps only one copy of an inline function.
//
// Packed layouts, `lanes` being the hidden units of one SIMD register ("block"), gates always r, z, n:
//   weights  [block][k][gate: 3][lane]           rows past the hidden size are 0
//            or, as pairs of bfloat16, [block][k / 2][gate: 3][lane], the even k in the lower half of a float32's bits;
//            the partner of a last even k is 0 and is not multiplied
//   bias     [block][gate: 3][lane], state bias [block][lane]
//   gates    [block][step][row][slot: 4][lane]   slots r, z, n of the input's part; slot 3 keeps sums between k ranges
namespace gru::simd {

/// Elements of a gates row per block and lane: three gates and one slot for interrupted sums.
inline constexpr int kGateSlots = 4;

/// A sum of up to so many products is one chain. A longer one is the sum of groups of so many, each the sum of parts that are
/// chains of their own, because the error of a chain grows with the square root of its length: a single one of 65536 loses 5e-6
/// in float32, this 1e-6.
inline constexpr int kLongestChain = 2048;
inline constexpr int kPart = 64;  ///< elements of packed weights of a part, in ascending order
static_assert(kLongestChain % (2 * kPart) == 0, "a group has whole parts, of pairs too");

/// How elements of a plan's tensors are stored: as they are computed, or in 16 bits.
enum class Stored : std::uint8_t { whole, float16, bfloat16 };

/// Rows of 16 bits and the float32 rows that they are widened to or rounded from; columns lie side by side.
template <class Bits>
struct HalfRows {
  Bits* halves = nullptr;
  std::ptrdiff_t halves_row = 0;  ///< from one row to the next
  std::ptrdiff_t floats_row = 0;  ///< likewise
  std::ptrdiff_t rows = 0;
  std::ptrdiff_t columns = 0;
  const std::int32_t* order = nullptr;  ///< if given, row m of the halves lies where the distance has row order[m]
};

/// Element (step, row, feature) of an input lies at data[step * step_stride + row * row_stride + feature *
/// feature_stride]; the strides may have any sign.
template <class T>
struct InputView {
  const T* data = nullptr;
  std::ptrdiff_t step_stride = 0;
  std::ptrdiff_t row_stride = 0;
  std::ptrdiff_t feature_stride = 1;
  const std::int32_t* order = nullptr;  ///< if given, row m lies where the strides have row order[m]
  const void* ahead = nullptr;          ///< if given, where the next step's rows will be read, ahead_row bytes apart
  std::ptrdiff_t ahead_row = 0;
};

/// gates[block][step][row][0..2][lane] = bias + W_ih x for every step and row, blocks [block_begin, block_end).
template <class T>
struct ProjectArgs {
  const void* weights = nullptr;  ///< packed W_ih (blocks, features, 3, lanes)
  const T* bias = nullptr;        ///< packed (blocks, 3, lanes)
  InputView<T> x;                 ///< (steps, rows, features)
  int steps = 0;
  int rows = 0;
  int features = 0;
  T* gates = nullptr;              ///< packed (blocks, steps, rows, 4, lanes)
  std::ptrdiff_t gates_block = 0;  ///< elements from one block's gates to the next's
  int block_begin = 0;
  int block_end = 0;
};

/// One step of the recurrence for blocks [block_begin, block_end) of every row.
template <class T>
struct StepArgs {
  const void* weights = nullptr;        ///< packed W_hh (blocks, hidden, 3, lanes)
  const T* bias = nullptr;              ///< packed b_hn (blocks, lanes)
  const void* input_weights = nullptr;  ///< packed W_ih: step_with_input only
  const T* input_bias = nullptr;        ///< packed (blocks, 3, lanes): step_with_input only
  InputView<T> x;                       ///< (1, rows, features): step_with_input only
  int features = 0;
  T* gates = nullptr;  ///< packed (blocks, 1, rows, 4, lanes): this step's; overwritten
  std::ptrdiff_t gates_block = 0;
  const T* state = nullptr;  ///< (rows, state_row): h
  T* next = nullptr;         ///< (rows, state_row): h' is written, padding units included (they stay 0)
  T* reset = nullptr;        ///< (rows, state_row): r * h; reset-before only
  std::ptrdiff_t state_row = 0;
  void* output = nullptr;         ///< (rows, hidden) strided, or null: h', or 0 where the row has ended
  Stored stored = Stored::whole;  ///< the output's elements
  std::ptrdiff_t output_row = 0;
  std::ptrdiff_t output_feature = 1;
  const std::int32_t* output_order =
      nullptr;                            ///< if given, row m of the output lies where the strides have row order[m]
  const std::int32_t* lengths = nullptr;  ///< (rows), or null: every row is as long as the sequence
  std::int32_t time = 0;                  ///< a row takes part if time < length; its state stays as it is otherwise
  bool keeps = false;                     ///< gates receive r, z, n; slot 3 holds W_hn h + b_hn after the product
  bool descending = false;                ///< last block first: what the caches kept of the last step comes first
  int rows = 0;
  int hidden = 0;
  int block_begin = 0;
  int block_end = 0;
};

/// Tiles [tile, tile_end) of the projection of later steps, to be made beside a step; tile i is block
/// block_begin + i / row_tiles, steps [i % row_tiles * max_rows, ...) of row_tiles = ceil(steps / max_rows).
template <class T>
struct BesideArgs {
  ProjectArgs<T> project;  ///< one row, features next to each other
  int tile = 0;
  int tile_end = 0;
};
/// k's of a step's product that take turns with one k of a tile: so that both need as many weights in all.
inline constexpr int kBesideDepth = 8;

/// c[row][column] += sum over k of a(row, k) w(k, column), for columns [3 * lanes * group_begin, 3 * lanes * group_end) as far
/// as there are `blocks` registers of them. a(row, k) lies at a[row * a_row + k * a_k]; one of the two strides is 1. Each
/// kProductDepth k's are summed up on their own and then added, so the result depends on no tiling.
template <class T>
struct ProductArgs {
  const T* weights = nullptr;        ///< packed (groups, depth, 3, lanes): three registers of columns a k
  std::ptrdiff_t weights_group = 0;  ///< elements from one group to the next
  const T* a = nullptr;              ///< (rows, depth)
  std::ptrdiff_t a_row = 0;
  std::ptrdiff_t a_k = 1;
  T* c = nullptr;  ///< (rows, blocks * lanes), rows c_row apart
  std::ptrdiff_t c_row = 0;
  int rows = 0;
  int depth = 0;
  int blocks = 0;
  int group_begin = 0;
  int group_end = 0;
};
/// k's that are summed up on their own: sums of many thousands stay exact enough, and the weights of a group stay in L1.
inline constexpr int kProductDepth = 128;

/// Slots of a row of gate gradients, each padded units wide: those of W_hh h + b_hh in the order n, r, z, then that of the
/// candidate's input part; so both products find three gates next to each other.
enum GradientSlot : int { kGradientHn = 0, kGradientR = 1, kGradientZ = 2, kGradientN = 3, kGradientSlots = 4 };

/// One step of the backward recurrence for blocks [block_begin, block_end) of every row, but for its product.
template <class T>
struct GateGradientArgs {
  const T* gates = nullptr;  ///< packed (blocks, 1, rows, 4, lanes): r, z, n, W_hn h + b_hn
  std::ptrdiff_t gates_block = 0;
  const T* state = nullptr;  ///< (rows, padded): h before the step
  T* dh = nullptr;  ///< (rows, padded): in, the gradient of h' but for the output's; out, what goes past the gates
  const T* grad = nullptr;  ///< (rows, hidden) strided, or null: the gradient of the step's output
  std::ptrdiff_t grad_row = 0;
  std::ptrdiff_t grad_feature = 1;
  const T* reset = nullptr;  ///< (rows, padded): W_hn^T dn, for reset_gradients alone
  T* sums = nullptr;         ///< (rows, 4, padded): gradients of the gates' arguments, rows sums_row apart
  std::ptrdiff_t sums_row = 0;
  const std::int32_t* lengths = nullptr;  ///< (rows), or null
  std::int32_t time = 0;                  ///< a row that has ended gives zeros, and its dh stays
  int rows = 0;
  int hidden = 0;
  int padded = 0;
  int block_begin = 0;
  int block_end = 0;
};

/// One instruction set's kernels for arithmetic in T.
template <class T>
struct Kernels {
  const char* name = nullptr;
  int lanes = 0;        ///< T's per register
  int max_rows = 0;     ///< rows of the largest register tile
  int max_depth = 0;    ///< k's of one block that a row tile leaves in the L1 cache for the next
  int per_element = 1;  ///< k's in an element of packed weights: 2 for pairs of bfloat16
  void (*project)(const ProjectArgs<T>&) = nullptr;
  void (*step)(const StepArgs<T>&) = nullptr;             ///< reset after the product (torch.nn.GRU)
  void (*step_with_input)(const StepArgs<T>&) = nullptr;  ///< project and step in one, for what `fuses` allows
  /// step for one row and a multiple of kBesideDepth units, with a part of a projection; null where registers are too few
  void (*step_beside)(const StepArgs<T>&, const BesideArgs<T>&) = nullptr;
  void (*reset_step)(const StepArgs<T>&) = nullptr;   ///< reset before it, first half: r * h and z
  void (*update_step)(const StepArgs<T>&) = nullptr;  ///< second half, when r * h is complete: h'
  void (*product)(const ProductArgs<T>&) = nullptr;
  void (*gate_gradients)(const GateGradientArgs<T>&) = nullptr;    ///< reset-after
  void (*update_gradients)(const GateGradientArgs<T>&) = nullptr;  ///< reset-before, first half: z and n
  void (*reset_gradients)(const GateGradientArgs<T>&) = nullptr;   ///< second half, when W_hn^T dn is complete: r
  // 16 bits to float32 and back, for T float: to the nearest value, added up before by add_rounded.
  void (*widen)(Stored, const HalfRows<const std::uint16_t>& from, T* to) = nullptr;
  void (*round)(Stored, const T* from, const HalfRows<std::uint16_t>& to) = nullptr;
  void (*add_rounded)(Stored, const T* from, const HalfRows<std::uint16_t>& to) = nullptr;
  void (*sigmoid)(const T* x, T* y, std::size_t n) = nullptr;  ///< the kernels' own sigmoid, for tests
  void (*tanh)(const T* x, T* y, std::size_t n) = nullptr;     ///< the kernels' own tanh, for tests
};

namespace generic {
extern const Kernels<float> kFloat32;
extern const Kernels<float> kFloat32Bfloat;
extern const Kernels<double> kFloat64;
}  // namespace generic
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels<float> kFloat32;
extern const Kernels<float> kFloat32Bfloat;
extern const Kernels<double> kFloat64;
}  // namespace avx2
namespace avx512 {
extern const Kernels<float> kFloat32;
extern const Kernels<float> kFloat32Bfloat;
extern const Kernels<double> kFloat64;
}  // namespace avx512
#endif

}  // namespace gru::simd
