// SPDX-License-Identifier: Apache-2.0
// Torch's parameters into the forms that kernels read: packed[to] = W[gate * H + unit][column], and 0 in the padding. A
// thread takes an element of packed memory in turn; the form says where it comes from. Writes are side by side; reads
// are as near as the form has them, from L2. 8 bytes an element, each a gather: some tens of microseconds for tens of
// megabytes.

#include <cuda_runtime.h>

#include "backends/cuda/device/tf32.cuh"
#include "backends/cuda/packing/tasks.hpp"
#include "gru/half.hpp"

namespace gru::cuda {
namespace {

template <class T>
__device__ T load(const void* from, DType dtype, std::int64_t i) {
  switch (dtype) {
    case DType::float64: return static_cast<T>(static_cast<const double*>(from)[i]);
    case DType::float16: return static_cast<T>(to_float(static_cast<const Float16*>(from)[i]));
    case DType::bfloat16: return static_cast<T>(to_float(static_cast<const BFloat16*>(from)[i]));
    default: return static_cast<T>(static_cast<const float*>(from)[i]);
  }
}

__device__ double bias_of(const PackTask& t, int which, int gate, int unit) {
  if (t.from[which] == nullptr) return 0.0;
  return load<double>(t.from[which], t.dtype[which],
                      (static_cast<std::int64_t>(gate) * t.hidden + unit) * t.stride[which]);
}

template <class Index>
__device__ void store(const PackTask& t, Index to, float value) {
  switch (t.stored) {
    case Stored::tf32: static_cast<float*>(t.to)[to] = rounded_to_tf32(value); return;
    case Stored::float16: static_cast<Float16*>(t.to)[to] = rounded_to<Float16>(value); return;
    case Stored::bfloat16: static_cast<BFloat16*>(t.to)[to] = rounded_to<BFloat16>(value); return;
    case Stored::tf32x3: {
      if (t.form.kind == PackForm::Kind::sliced) {
        constexpr int eight_rows = 8 * 32;
        const Tf32Pair pair(value);
        float* const place = static_cast<float*>(t.to) + to + to / eight_rows * eight_rows;
        place[0] = pair.big;
        place[eight_rows] = pair.small;
        return;
      }
      const Index pitch = t.form.rows.pitch;
      const Tf32Parts parts(value);
      float* const row = static_cast<float*>(t.to) + to + to / pitch * 2 * pitch;
      row[0] = parts.finite;
      row[pitch] = parts.small;
      row[2 * pitch] = parts.big;
      return;
    }
    default: static_cast<float*>(t.to)[to] = value;
  }
}

template <class Index>
__device__ void store_bias(const PackTask& t, const PackedPlace<Index>& place, bool reset_after) {
  double value = 0.0;
  if (place.unit < t.hidden) {
    const int gate = min(place.gate, 2);
    value = folded_bias(place.gate, reset_after, bias_of(t, 0, gate, place.unit), bias_of(t, 1, gate, place.unit));
  }
  if (t.stored == Stored::float64) {
    static_cast<double*>(t.to)[place.to] = value;
  } else {
    static_cast<float*>(t.to)[place.to] = static_cast<float>(value);
  }
}

template <class Index>
__device__ void store_weight(const PackTask& t, const PackedPlace<Index>& place) {
  const bool there = place.unit < t.hidden && place.column < t.columns;
  const std::int64_t from =
      (static_cast<std::int64_t>(place.gate) * t.hidden + place.unit) * t.stride[0] + place.column * t.stride[1];
  if (t.stored == Stored::float64) {
    static_cast<double*>(t.to)[place.to] = there ? load<double>(t.from[0], t.dtype[0], from) : 0.0;
  } else {
    store(t, place.to, there ? load<float>(t.from[0], t.dtype[0], from) : 0.0F);
  }
}

template <class Index>
__device__ void pack(const PackTask& t, bool reset_after) {
  const auto count = static_cast<Index>(t.form.count());
  const auto step = static_cast<Index>(gridDim.x) * kPackThreads;
  for (Index i = static_cast<Index>(blockIdx.x) * kPackThreads + static_cast<Index>(threadIdx.x); i < count;
       i += step) {
    const PackedPlace<Index> place = t.form.place(i);
    if (t.form.kind == PackForm::Kind::bias) {
      store_bias(t, place, reset_after);
    } else {
      store_weight(t, place);
    }
  }
}

__global__ void __launch_bounds__(kPackThreads) pack_weights(const __grid_constant__ PackTasks tasks) {
  const PackTask& t = tasks.task[blockIdx.y];
  // Divisions of 64 bits take several times those of 32, and only a matrix of 2^30 elements needs them.
  if (t.form.count() <= 0x40000000) {
    pack<int>(t, tasks.reset_after);
  } else {
    pack<std::int64_t>(t, tasks.reset_after);
  }
}

}  // namespace

const void* pack_kernel() { return reinterpret_cast<const void*>(&pack_weights); }

}  // namespace gru::cuda
