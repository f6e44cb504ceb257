// SPDX-License-Identifier: Apache-2.0
// The tensors of the caller into a plan's order and back: one thread an element, each read and written once, bound by
// memory. Parameters' gradients come as partial sums, which are added in order.

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/training/kernel/cell_math.cuh"
#include "backends/cuda/training/kernels.hpp"

namespace gru::cuda {
namespace {

constexpr int kThreads = 256;

__device__ long long this_item() { return static_cast<long long>(blockIdx.x) * kThreads + threadIdx.x; }

template <class T>
__global__ void __launch_bounds__(kThreads) input_kernel(const __grid_constant__ InputArgs a) {
  const long long item = this_item();
  const auto k = static_cast<int>(item % a.features);
  const long long row = item / a.features;
  const auto b = static_cast<int>(row % a.batch), place = static_cast<int>(row / a.batch), t = a.first_time + place;
  if (place >= a.times) return;
  T value = T(0);
  if (t < length_of(a.lengths, b, a.steps)) {
    value = static_cast<const T*>(a.from.data)[t * a.from.stride[0] + b * a.from.stride[1] + k * a.from.stride[2]];
    if (a.dropout.active())
      value = a.dropout.keeps(a.first_index + static_cast<std::uint64_t>(item + static_cast<long long>(a.first_time) *
                                                                                    a.batch * a.features))
                  ? value * T(a.dropout.scale)
                  : T(0);
  }
  static_cast<T*>(a.to)[item] = value;
}

template <class T>
__global__ void __launch_bounds__(kThreads) copy_kernel(const __grid_constant__ CopyArgs a) {
  const long long item = this_item();
  const auto k = static_cast<int>(item % a.extents[2]);
  const long long row = item / a.extents[2];
  const auto b = static_cast<int>(row % a.extents[1]), t = static_cast<int>(row / a.extents[1]);
  if (t >= a.extents[0]) return;
  const bool there = a.from.data != nullptr && (a.lengths.data == nullptr || t < length_of(a.lengths, b, a.steps));
  const T value =
      there ? static_cast<const T*>(a.from.data)[t * a.from.stride[0] + b * a.from.stride[1] + k * a.from.stride[2]]
            : T(0);
  T& to = static_cast<T*>(a.to.data)[t * a.to.stride[0] + b * a.to.stride[1] + k * a.to.stride[2]];
  to = a.accumulate ? to + value : value;
}

template <class T>
__global__ void __launch_bounds__(kThreads) start_kernel(const __grid_constant__ StartArgs a) {
  const long long item = this_item();
  const auto unit = static_cast<int>(item % a.hidden);
  const auto b = static_cast<int>(item / a.hidden % a.batch);
  const auto cell = static_cast<int>(item / a.hidden / a.batch);
  if (cell >= a.layers * a.directions) return;
  const int layer = cell / a.directions, direction = cell % a.directions;
  const T h0 =
      a.h0.data == nullptr
          ? T(0)
          : static_cast<const T*>(a.h0.data)[cell * a.h0.stride[0] + b * a.h0.stride[1] + unit * a.h0.stride[2]];
  static_cast<T*>(a.state)[item] = h0;
  Stage s;
  s.steps = a.steps;
  s.batch = a.batch;
  s.hidden = a.hidden;
  s.directions = a.directions;
  T* states = static_cast<T*>(a.states);
  // A row without steps gives nothing: its h0, which may be NaN, must not meet the gradients' zeros in a product.
  const T first = length_of(a.lengths, b, a.steps) > 0 ? h0 : T(0);
  states[state_at(s, layer, direction == 0 ? 0 : a.steps + 1, b, direction, unit)] = first;
  states[state_at(s, layer, direction == 0 ? a.steps + 1 : 0, b, direction, unit)] = T(0);
}

/// Of a row of the plan's, the row of torch's.
__device__ int torch_row(const ParameterArgs& a, int row) {
  const int gate = row / a.hidden;
  const int which = gate == a.order[0] ? 0 : gate == a.order[1] ? 1 : 2;
  return which * a.hidden + row % a.hidden;
}

template <class T>
__global__ void __launch_bounds__(kThreads) load_parameter_kernel(const __grid_constant__ ParameterArgs a) {
  const long long item = this_item();
  const auto column = static_cast<int>(item % a.columns);
  const auto row = static_cast<int>(item / a.columns);
  if (row >= 3 * a.hidden) return;
  const int unit = row % a.hidden, first = torch_row(a, row) - unit;
  const int from_row = a.transpose ? first + column : first + unit, from_column = a.transpose ? unit : column;
  static_cast<T*>(a.to)[row * a.pitch + column] =
      static_cast<const T*>(a.from)[from_row * a.row_stride + from_column * a.column_stride];
}

template <class T>
__global__ void __launch_bounds__(kThreads) store_parameter_kernel(const __grid_constant__ ParameterArgs a) {
  const long long item = this_item();
  const auto column = static_cast<int>(item % a.columns);
  const auto row = static_cast<int>(item / a.columns);
  if (row >= 3 * a.hidden) return;
  const T* from = static_cast<const T*>(a.from) + row * a.pitch + column;
  T sum = T(0);
  for (int part = 0; part < a.parts; ++part) sum += from[part * a.part_stride];
  T& to = static_cast<T*>(a.to)[torch_row(a, row) * a.row_stride + column * a.column_stride];
  to = a.accumulate ? to + sum : sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads) bias_kernel(const __grid_constant__ BiasArgs a) {
  const long long item = this_item();
  if (item >= 4 * a.hidden) return;
  const auto which = static_cast<int>(item / a.hidden), unit = static_cast<int>(item % a.hidden);
  const auto ih = [&](int gate) {
    return a.ih == nullptr ? T(0) : static_cast<const T*>(a.ih)[(gate * a.hidden + unit) * a.ih_stride];
  };
  const auto hh = [&](int gate) {
    return a.hh == nullptr ? T(0) : static_cast<const T*>(a.hh)[(gate * a.hidden + unit) * a.hh_stride];
  };
  T value = T(0);
  if (which < 2) value = ih(which) + hh(which);
  if (which == 2) value = a.reset_after ? ih(2) : ih(2) + hh(2);
  if (which == 3 && a.reset_after) value = hh(2);
  static_cast<T*>(a.to)[item] = value;
}

/// A block sums 32 columns of a part, eight rows at a time, then its eight sums in order.
template <class T>
__global__ void __launch_bounds__(kThreads) column_sum_kernel(const __grid_constant__ ColumnSumArgs a) {
  __shared__ T sums[kThreads / 32][32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int column = static_cast<int>(blockIdx.x) * 32 + lane;
  const long long first = static_cast<long long>(blockIdx.y) * a.rows_each;
  const long long end = min(first + a.rows_each, static_cast<long long>(a.rows));
  T sum = T(0);
  if (column < a.columns) {
#pragma unroll 4
    for (long long row = first + warp; row < end; row += kThreads / 32)
      sum += static_cast<const T*>(a.from)[row * a.columns + column];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= a.columns) return;
  for (int i = 1; i < kThreads / 32; ++i) sum += sums[i][lane];
  static_cast<T*>(a.to)[static_cast<long long>(blockIdx.y) * a.columns + column] = sum;
}

/// A thread sums a column.
template <class T>
__global__ void __launch_bounds__(kThreads) add_parts_kernel(const __grid_constant__ ColumnSumArgs a) {
  const long long column = this_item();
  if (column >= a.columns) return;
  const T* from = static_cast<const T*>(a.from) + column;
  T sum = T(0);
#pragma unroll 4
  for (long long row = 0; row < a.rows; ++row) sum += from[row * a.columns];
  static_cast<T*>(a.to)[column] = sum;
}

template <class Args>
void launch(StreamRef stream, const void* kernel, dim3 grid, const Args& args) {
  if (grid.x == 0 || grid.y == 0) return;
  Launch(grid, dim3(kThreads), 0, stream).start(kernel, "a launch of training", args);
}
dim3 blocks_for(long long items) { return {blocks(items, kThreads)}; }

// The kernel of a dtype, as an address.
#define GRU_TRAINING_KERNEL(name, dtype)                                    \
  ((dtype) == DType::float64 ? reinterpret_cast<const void*>(&name<double>) \
                             : reinterpret_cast<const void*>(&name<float>))

}  // namespace

void load_input(StreamRef stream, DType dtype, const InputArgs& a) {
  launch(stream, GRU_TRAINING_KERNEL(input_kernel, dtype),
         blocks_for(static_cast<long long>(a.times) * a.batch * a.features), a);
}
void copy(StreamRef stream, DType dtype, const CopyArgs& a) {
  launch(stream, GRU_TRAINING_KERNEL(copy_kernel, dtype),
         blocks_for(static_cast<long long>(a.extents[0]) * a.extents[1] * a.extents[2]), a);
}
void start_states(StreamRef stream, DType dtype, const StartArgs& a) {
  launch(stream, GRU_TRAINING_KERNEL(start_kernel, dtype),
         blocks_for(static_cast<long long>(a.layers) * a.directions * a.batch * a.hidden), a);
}
void load_parameter(StreamRef stream, DType dtype, const ParameterArgs& a) {
  launch(stream, GRU_TRAINING_KERNEL(load_parameter_kernel, dtype), blocks_for(3LL * a.hidden * a.columns), a);
}
void store_parameter(StreamRef stream, DType dtype, const ParameterArgs& a) {
  launch(stream, GRU_TRAINING_KERNEL(store_parameter_kernel, dtype), blocks_for(3LL * a.hidden * a.columns), a);
}
void load_bias(StreamRef stream, DType dtype, const BiasArgs& a) {
  launch(stream, GRU_TRAINING_KERNEL(bias_kernel, dtype), blocks_for(4LL * a.hidden), a);
}
void sum_columns(StreamRef stream, DType dtype, const ColumnSumArgs& a) {
  launch(stream, GRU_TRAINING_KERNEL(column_sum_kernel, dtype),
         dim3(blocks(a.columns, 32), blocks(a.rows, a.rows_each)), a);
}

void add_parts(StreamRef stream, DType dtype, const ColumnSumArgs& a) {
  launch(stream, GRU_TRAINING_KERNEL(add_parts_kernel, dtype), blocks_for(a.columns), a);
}

void load_cell_kernels(DType dtype);  // cells.cu

void load_training_kernels(DType dtype) {
  load_cell_kernels(dtype);
  for (const void* kernel :
       {GRU_TRAINING_KERNEL(input_kernel, dtype), GRU_TRAINING_KERNEL(copy_kernel, dtype),
        GRU_TRAINING_KERNEL(start_kernel, dtype), GRU_TRAINING_KERNEL(load_parameter_kernel, dtype),
        GRU_TRAINING_KERNEL(store_parameter_kernel, dtype), GRU_TRAINING_KERNEL(bias_kernel, dtype),
        GRU_TRAINING_KERNEL(column_sum_kernel, dtype), GRU_TRAINING_KERNEL(add_parts_kernel, dtype)})
    load_kernel(kernel);
}

}  // namespace gru::cuda
