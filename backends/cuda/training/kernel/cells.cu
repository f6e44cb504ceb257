// SPDX-License-Identifier: Apache-2.0
// One step of the cells of a stage beside a product of all their rows: the last resort for every shape.
//
//   forwards   hidden = W_hh h (product), then r = sigmoid(x_r + h_r), z = sigmoid(x_z + h_z), n = tanh(x_n + r h_n),
//              h' = n + z (h - n); r, z, n and h_n = W_hn h + b_hn are kept, 16 bytes a unit in float
//   backwards  dh += gradient of the output; dz = dh (h - n) z (1 - z), dn = dh (1 - z) (1 - n^2), dr = dn h_n r (1 -
//              r), dn' = dn r; dh = dh z, then dh += W_hh^T (dr, dz, dn') (product)
// reset-before, n = tanh(x_n + W_hn (r h) + b_hn), splits each in two around the product with W_hn: dr = (W_hn^T dn) h
// r (1 - r).
//
// A thread owns one unit of one sequence. Each value is read and written once: bound by memory and by the launch
// itself. Rows past their length keep their state forwards and their dh backwards and give nothing to the gradients.

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/training/kernel/cell_math.cuh"
#include "backends/cuda/training/kernels.hpp"

namespace gru::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
struct CellView {
  const CellArgs& a;
  const CellPlace p;
  const int hidden;
  const bool valid;

  __device__ CellView(const CellArgs& args, long long item, bool backwards)
      : a(args),
        p(args, item, backwards),
        hidden(args.stage.hidden),
        valid(p.at_work && p.time < length_of(args.lengths, p.row, args.stage.steps)) {}

  __device__ T& state() const { return static_cast<T*>(a.state)[p.in_state(a.stage)]; }
  __device__ T& reset_state() const { return static_cast<T*>(a.reset_state)[p.in_state(a.stage)]; }
  __device__ T bias(int which) const {
    return static_cast<const T*>(a.bias)[(static_cast<long long>(p.cell) * 4 + which) * hidden + p.unit];
  }
  /// Gate 0..2: n, r, z.
  __device__ T input(int gate) const {
    const Stage& s = a.stage;
    const long long row = static_cast<long long>(p.slot) * s.chunk_steps * s.batch + p.by_place(s);
    return static_cast<const T*>(a.input)[(row * 3 + gate) * hidden + p.unit];
  }
  /// Gate 0..2: r, z, n.
  __device__ T product(int gate) const {
    const long long row = static_cast<long long>(p.cell) * a.stage.batch + p.row;
    return static_cast<const T*>(a.hidden)[(row * 3 + gate) * hidden + p.unit];
  }
  __device__ T reset_gate() const { return DeviceMath::sigmoid(input(1) + product(0) + bias(0)); }
  __device__ T update_gate() const { return DeviceMath::sigmoid(input(2) + product(1) + bias(1)); }
  __device__ Kept<T>* kept() const {
    return a.gates == nullptr ? nullptr : static_cast<Kept<T>*>(a.gates) + kept_at(a, p);
  }
  __device__ T before() const { return static_cast<const T*>(a.states)[state_before(a.stage, p)]; }
  __device__ void finish(const Kept<T>& k, T old) const {
    const T now = valid ? k.n + k.z * (old - k.n) : old;
    state() = now;
    if (a.factors != Factors::float32)
      store_factor(a.factors, a.state_operand, p.in_state(a.stage), static_cast<float>(now));
    const int length = valid ? 1 : length_of(a.lengths, p.row, a.stage.steps);
    static_cast<T*>(a.states)[state_after(a.stage, p)] = valid ? now : state_past_end(p.direction, length, old);
    if (valid && a.gates != nullptr) *kept() = k;
  }
  __device__ void store_gradients(T n, T r, T z, T hidden_n) const {
    if (a.factors != Factors::float32) {
      store_factors(static_cast<float>(n), static_cast<float>(r), static_cast<float>(z), static_cast<float>(hidden_n));
      return;
    }
    const Stage& s = a.stage;
    T* step =
        static_cast<T*>(a.step_gradients) + (static_cast<long long>(p.cell) * s.batch + p.row) * 3 * hidden + p.unit;
    step[0] = r;
    step[hidden] = z;
    step[2 * hidden] = hidden_n;
    if (!p.at_work) return;
    T* all = static_cast<T*>(a.gradients) + gradients_row(a, p) * 4 * hidden + p.unit;
    all[0] = n;
    all[hidden] = r;
    all[2 * hidden] = z;
    all[3 * hidden] = hidden_n;
  }
  /// The same in 16 bits.
  __device__ void store_factors(float n, float r, float z, float hidden_n) const {
    const long long step = (static_cast<long long>(p.cell) * a.stage.batch + p.row) * 3 * hidden + p.unit;
    store_factor(a.factors, a.step_operand, step, r);
    store_factor(a.factors, a.step_operand, step + hidden, z);
    store_factor(a.factors, a.step_operand, step + 2LL * hidden, hidden_n);
    if (!p.at_work) return;
    const long long all = gradients_row(a, p) * 4 * hidden + p.unit;
    store_factor(a.factors, a.gradients, all, n);
    store_factor(a.factors, a.gradients, all + hidden, r);
    store_factor(a.factors, a.gradients, all + 2LL * hidden, z);
    store_factor(a.factors, a.gradients, all + 3LL * hidden, hidden_n);
  }
};

/// Calls f for each unit of each cell of the stage.
template <class T, class F>
__device__ void for_each_unit(const CellArgs& a, bool backwards, F&& f) {
  const long long item = static_cast<long long>(blockIdx.x) * kThreads + threadIdx.x;
  if (item < CellPlace::count(a.stage)) f(CellView<T>(a, item, backwards));
}

struct ForwardStep {
  template <class T>
  static __device__ void run(const CellArgs& a) {
    for_each_unit<T>(a, false, [](const CellView<T>& v) {
      if (!v.p.at_work) return;
      Kept<T> k{};
      if (v.valid) {
        k.r = v.reset_gate();
        k.z = v.update_gate();
        k.hn = v.product(2) + v.bias(3);
        k.n = DeviceMath::tanh(v.input(0) + v.bias(2) + k.r * k.hn);
      }
      v.finish(k, v.state());
    });
  }
};

struct ForwardReset {
  template <class T>
  static __device__ void run(const CellArgs& a) {
    for_each_unit<T>(a, false, [](const CellView<T>& v) {
      const T r = v.valid ? v.reset_gate() : T(0);
      v.reset_state() = v.valid ? r * v.state() : T(0);
    });
  }
};

struct ForwardUpdate {
  template <class T>
  static __device__ void run(const CellArgs& a) {
    for_each_unit<T>(a, false, [](const CellView<T>& v) {
      if (!v.p.at_work) return;
      Kept<T> k{};
      if (v.valid) {
        k.r = v.reset_gate();
        k.z = v.update_gate();
        k.n = DeviceMath::tanh(v.input(0) + v.bias(2) + v.product(2));
      }
      v.finish(k, v.state());
    });
  }
};

struct BackwardStep {
  template <class T>
  static __device__ void run(const CellArgs& a) {
    for_each_unit<T>(a, true, [](const CellView<T>& v) {
      if (!v.valid) return v.store_gradients(T(0), T(0), T(0), T(0));
      const Kept<T> k = *v.kept();
      const T dh = v.state() + output_gradient<T>(v.a, v.p);
      const GateFactors<T> f(k, v.before());
      v.store_gradients(dh * f.n, dh * f.r, dh * f.z, dh * f.hidden_n);
      v.state() = dh * k.z;
    });
  }
};

struct BackwardUpdate {
  template <class T>
  static __device__ void run(const CellArgs& a) {
    for_each_unit<T>(a, true, [](const CellView<T>& v) {
      if (!v.valid) return v.store_gradients(T(0), T(0), T(0), T(0));
      const Kept<T> k = *v.kept();
      const T dh = v.state() + output_gradient<T>(v.a, v.p);
      const T n = dh * (T(1) - k.z) * (T(1) - k.n * k.n);
      v.store_gradients(n, T(0), dh * (v.before() - k.n) * k.z * (T(1) - k.z), n);
      v.state() = dh * k.z;
    });
  }
};

struct BackwardReset {
  template <class T>
  static __device__ void run(const CellArgs& a) {
    for_each_unit<T>(a, true, [](const CellView<T>& v) {
      if (!v.valid) return;
      const Stage& s = v.a.stage;
      const T r = v.kept()->r, through = v.reset_state();
      const T dr = through * v.before() * r * (T(1) - r);
      const long long at = v.p.unit;
      static_cast<T*>(v.a.step_gradients)[(static_cast<long long>(v.p.cell) * s.batch + v.p.row) * 3 * v.hidden + at] =
          dr;
      static_cast<T*>(v.a.gradients)[(gradients_row(v.a, v.p) * 4 + 1) * v.hidden + at] = dr;
      v.state() += through * r;
    });
  }
};

template <class Step, class T>
__global__ void __launch_bounds__(kThreads) step_kernel(const __grid_constant__ CellArgs a) {
  Step::template run<T>(a);
}

/// Gates of a stage's chunks, all steps at once.
template <class T>
__global__ void __launch_bounds__(kThreads)
    remake_kernel(const __grid_constant__ CellArgs a, bool reset_after, T* reset_rows) {
  const Stage& s = a.stage;
  const long long per_step = CellPlace::count(s);
  const long long item = static_cast<long long>(blockIdx.x) * kThreads + threadIdx.x;
  if (item >= per_step * s.chunk_steps) return;
  CellArgs at = a;
  at.step = static_cast<int>(item / per_step);
  const CellView<T> v(at, item % per_step, false);
  if (!v.valid) {
    if (reset_rows != nullptr && v.p.at_work) reset_rows[kept_at(at, v.p)] = T(0);
    return;
  }
  const long long row = static_cast<long long>(v.p.slot) * s.chunk_steps * s.batch + v.p.by_place(s);
  const T* product = static_cast<const T*>(a.hidden) + row * 3 * v.hidden + v.p.unit;
  Kept<T> k{};
  k.r = DeviceMath::sigmoid(v.input(1) + product[0] + v.bias(0));
  if (reset_rows != nullptr) {
    reset_rows[kept_at(at, v.p)] = k.r * v.before();
    return;
  }
  k.z = DeviceMath::sigmoid(v.input(2) + product[v.hidden] + v.bias(1));
  const T from_state = product[2 * v.hidden];
  k.hn = reset_after ? from_state + v.bias(3) : T(0);
  k.n = DeviceMath::tanh(v.input(0) + v.bias(2) + (reset_after ? k.r * k.hn : from_state));
  *v.kept() = k;
}

template <class T>
__global__ void __launch_bounds__(kThreads) reset_rows_kernel(const __grid_constant__ CellArgs a, T* to) {
  const Stage& s = a.stage;
  const long long per_step = CellPlace::count(s);
  const long long item = static_cast<long long>(blockIdx.x) * kThreads + threadIdx.x;
  if (item >= per_step * s.steps) return;
  CellArgs at = a;
  at.step = static_cast<int>(item / per_step);
  const CellView<T> v(at, item % per_step, false);
  to[(static_cast<long long>(v.p.direction) * s.steps * s.batch + v.p.by_time(s)) * s.hidden + v.p.unit] =
      v.valid ? v.kept()->r * v.before() : T(0);
}

template <class... Arguments>
void launch(StreamRef stream, const void* kernel, long long items, const Arguments&... arguments) {
  if (items == 0) return;
  Launch(dim3(blocks(items, kThreads)), dim3(kThreads), 0, stream).start(kernel, "a launch of training", arguments...);
}

long long units_of(const Stage& s) { return static_cast<long long>(s.layers) * s.directions * s.batch * s.hidden; }

template <class Step>
const void* step_of(DType dtype) {
  return dtype == DType::float64 ? reinterpret_cast<const void*>(&step_kernel<Step, double>)
                                 : reinterpret_cast<const void*>(&step_kernel<Step, float>);
}
template <class Step>
void launch_step(StreamRef stream, DType dtype, const CellArgs& args) {
  launch(stream, step_of<Step>(dtype), units_of(args.stage), args);
}
const void* remake_of(DType dtype) {
  return dtype == DType::float64 ? reinterpret_cast<const void*>(&remake_kernel<double>)
                                 : reinterpret_cast<const void*>(&remake_kernel<float>);
}
const void* reset_rows_of(DType dtype) {
  return dtype == DType::float64 ? reinterpret_cast<const void*>(&reset_rows_kernel<double>)
                                 : reinterpret_cast<const void*>(&reset_rows_kernel<float>);
}
void launch_remake(StreamRef stream, DType dtype, const CellArgs& args, bool reset_after, void* rows) {
  launch(stream, remake_of(dtype), units_of(args.stage) * args.stage.chunk_steps, args, reset_after, rows);
}

}  // namespace

void forward_step(StreamRef stream, DType dtype, const CellArgs& a) { launch_step<ForwardStep>(stream, dtype, a); }
void forward_reset(StreamRef stream, DType dtype, const CellArgs& a) { launch_step<ForwardReset>(stream, dtype, a); }
void forward_update(StreamRef stream, DType dtype, const CellArgs& a) { launch_step<ForwardUpdate>(stream, dtype, a); }
void backward_step(StreamRef stream, DType dtype, const CellArgs& a) { launch_step<BackwardStep>(stream, dtype, a); }
void backward_update(StreamRef stream, DType dtype, const CellArgs& a) {
  launch_step<BackwardUpdate>(stream, dtype, a);
}
void backward_reset(StreamRef stream, DType dtype, const CellArgs& a) { launch_step<BackwardReset>(stream, dtype, a); }

void remake_gates(StreamRef stream, DType dtype, const CellArgs& args, bool reset_after) {
  launch_remake(stream, dtype, args, reset_after, nullptr);
}
void remake_reset(StreamRef stream, DType dtype, const CellArgs& args, void* rows) {
  launch_remake(stream, dtype, args, false, rows);
}
void reset_rows(StreamRef stream, DType dtype, const CellArgs& args, void* to) {
  launch(stream, reset_rows_of(dtype), units_of(args.stage) * args.stage.steps, args, to);
}

void load_cell_kernels(DType dtype) {
  for (const void* kernel : {step_of<ForwardStep>(dtype), step_of<ForwardReset>(dtype), step_of<ForwardUpdate>(dtype),
                             step_of<BackwardStep>(dtype), step_of<BackwardUpdate>(dtype),
                             step_of<BackwardReset>(dtype), remake_of(dtype), reset_rows_of(dtype)})
    load_kernel(kernel);
}

}  // namespace gru::cuda
