// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Kokkos_Core.hpp>

#include "backends/kokkos/layout.hpp"
#include "backends/kokkos/meeting.hpp"
#include "gru/cell.hpp"
#include "gru/detail/cell_gradient.hpp"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GRU_WITH_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif
#endif

namespace gru::kokkos {

/// Blocks [begin, end).
struct BlockRange {
  int begin = 0;
  int end = 0;
};

/// The team's barrier. ThreadSanitizer sees neither into Kokkos' library nor what fences order; it is told.
template <class Member>
KOKKOS_FUNCTION void meet_team(const Member& member) {
#if defined(GRU_WITH_THREAD_SANITIZER)
  static char words[64];  // teams share one at times, which hides what such teams do to each other
  char* const word = &words[member.league_rank() % 64];
  __tsan_release(word);
  member.team_barrier();
  __tsan_acquire(word);
#else
  member.team_barrier();
#endif
}

/// Multiply policy for hosts: each thread of a team owns a contiguous range of blocks and calls the SIMD kernels for
/// it.
template <class T>
struct HostMultiply {
  const simd::Kernels<T>* kernels = nullptr;

  template <class Member>
  KOKKOS_FUNCTION void meet(const Member& member) const {
    if (member.team_size() > 1) meet_team(member);
  }

  template <class Member>
  KOKKOS_FUNCTION BlockRange range(const Member& member, int blocks) const {
    const std::int64_t n = blocks;
    return {static_cast<int>(n * member.team_rank() / member.team_size()),
            static_cast<int>(n * (member.team_rank() + 1) / member.team_size())};
  }
  template <class Member>
  KOKKOS_FUNCTION bool alone(const Member& member, const Shape& shape) const {
    return member.team_size() == 1 || (member.team_size() == 2 && shape.directions == 2);
  }
  template <class Member, class F>
  KOKKOS_FUNCTION void for_each(const Member&, int n, const F& f) const {
    for (int i = 0; i < n; ++i) f(i);
  }
  template <class Member, class F>
  KOKKOS_FUNCTION void for_team(const Member& member, int n, const F& f) const {
    for (int i = member.team_rank(); i < n; i += member.team_size()) f(i);
  }
  template <class Member>
  KOKKOS_FUNCTION void project(const Member&, const simd::ProjectArgs<T>& a) const {
    kernels->project(a);
  }
  template <class Member>
  KOKKOS_FUNCTION void step(const Member&, const simd::StepArgs<T>& a) const {
    kernels->step(a);
  }
  /// The fused step walks a block's weights once: one k range, or a single row tile.
  KOKKOS_FUNCTION bool fuses(int rows, int features, int hidden) const {
    const bool chains = features <= simd::kLongestChain && hidden <= simd::kLongestChain;
    return (rows <= kernels->max_rows && chains) || (features <= kernels->max_depth && hidden <= kernels->max_depth);
  }
  template <class Member>
  KOKKOS_FUNCTION void step_with_input(const Member&, const simd::StepArgs<T>& a) const {
    kernels->step_with_input(a);
  }
  /// Beside each other both sums are single chains.
  KOKKOS_FUNCTION bool steps_beside(int rows, std::ptrdiff_t feature_stride, int features, int hidden) const {
    return rows == 1 && feature_stride == 1 && features <= simd::kLongestChain && hidden <= simd::kLongestChain;
  }
  KOKKOS_FUNCTION std::int64_t beside_tiles(const simd::ProjectArgs<T>& a) const {
    return static_cast<std::int64_t>(a.block_end - a.block_begin) *
           ((a.steps + kernels->max_rows - 1) / kernels->max_rows);
  }
  template <class Member>
  KOKKOS_FUNCTION void step_beside(const Member&, const simd::StepArgs<T>& a, const simd::BesideArgs<T>& beside) const {
    kernels->step_beside(a, beside);
  }
  template <class Member>
  KOKKOS_FUNCTION void reset_step(const Member&, const simd::StepArgs<T>& a) const {
    kernels->reset_step(a);
  }
  template <class Member>
  KOKKOS_FUNCTION void update_step(const Member&, const simd::StepArgs<T>& a) const {
    kernels->update_step(a);
  }

  /// How many take tasks.
  template <class Member>
  KOKKOS_FUNCTION int ranks(const Member& member) const {
    return member.league_size() * member.team_size();
  }
  /// Tasks of which each is one thread's own: f(task, rank) for the tasks that this member takes.
  template <class Member, class F>
  KOKKOS_FUNCTION void for_tasks(const Member& member, int n, const F& f) const {
    const int rank = member.league_rank() * member.team_size() + member.team_rank();
    for (int i = rank; i < n; i += member.league_size() * member.team_size()) f(i, rank);
  }
  /// Asks memory for n elements: rows lie a page apart, where no hardware looks ahead.
  KOKKOS_FUNCTION void prefetch(const T* from, int n) const {
    constexpr int kLine = static_cast<int>(64 / sizeof(T));
    for (int i = 0; i < n; i += kLine) __builtin_prefetch(from + i);
  }
  template <class Member>
  KOKKOS_FUNCTION void settle(const Member&) const {}  // what a thread wrote it sees
  template <class Member>
  KOKKOS_FUNCTION void product(const Member&, const simd::ProductArgs<T>& a) const {
    kernels->product(a);
  }
  template <class Member>
  KOKKOS_FUNCTION void gate_gradients(const Member&, const simd::GateGradientArgs<T>& a) const {
    kernels->gate_gradients(a);
  }
  template <class Member>
  KOKKOS_FUNCTION void update_gradients(const Member&, const simd::GateGradientArgs<T>& a) const {
    kernels->update_gradients(a);
  }
  template <class Member>
  KOKKOS_FUNCTION void reset_gradients(const Member&, const simd::GateGradientArgs<T>& a) const {
    kernels->reset_gradients(a);
  }
};

/// Multiply policy for any execution space: the team's threads share out (row, unit) pairs, always the same pairs to
/// the same thread, so that what a thread projects is what it reads in the steps. Sums run over k in ascending order, long
/// ones by parts.
template <class T>
struct PortableMultiply {
  int lanes = 1;

  template <class Member>
  KOKKOS_FUNCTION void meet(const Member& member) const {
    meet_team(member);
  }

  template <class Member>
  KOKKOS_FUNCTION BlockRange range(const Member&, int blocks) const {
    return {0, blocks};
  }
  template <class Member>
  KOKKOS_FUNCTION bool alone(const Member&, const Shape&) const {
    return false;
  }
  template <class Member, class F>
  KOKKOS_FUNCTION void for_each(const Member& member, int n, const F& f) const {
    Kokkos::parallel_for(Kokkos::TeamVectorRange(member, n), f);
  }
  template <class Member, class F>
  KOKKOS_FUNCTION void for_team(const Member& member, int n, const F& f) const {
    for_each(member, n, f);
  }

  KOKKOS_FUNCTION bool fuses(int, int, int) const { return false; }
  template <class Member>
  KOKKOS_FUNCTION void step_with_input(const Member&, const simd::StepArgs<T>&) const {}
  KOKKOS_FUNCTION bool steps_beside(int, std::ptrdiff_t, int, int) const { return false; }
  KOKKOS_FUNCTION std::int64_t beside_tiles(const simd::ProjectArgs<T>&) const { return 0; }
  template <class Member>
  KOKKOS_FUNCTION void step_beside(const Member&, const simd::StepArgs<T>&, const simd::BesideArgs<T>&) const {}

  template <class Member>
  KOKKOS_FUNCTION void project(const Member& member, const simd::ProjectArgs<T>& a) const {
    for_pairs(member, a, [&](int row, int block, int lane) {
      const T* w =
          static_cast<const T*>(a.weights) + static_cast<std::ptrdiff_t>(block) * a.features * 3 * lanes + lane;
      const T* bias = a.bias + block * 3 * lanes + lane;
      for (int s = 0; s < a.steps; ++s) {
        const int at = a.x.order == nullptr ? row : a.x.order[row];
        const T* x = a.x.data + s * a.x.step_stride + at * a.x.row_stride;
        T sum[3] = {bias[0], bias[lanes], bias[2 * lanes]};
        multiply<3>(sum, w, x, a.x.feature_stride, a.features);
        T* gates = a.gates + block * a.gates_block + row_of(s * a.rows + row) + lane;
        for (int g = 0; g < 3; ++g) gates[g * lanes] = sum[g];
      }
    });
  }

  template <class Member>
  KOKKOS_FUNCTION void step(const Member& member, const simd::StepArgs<T>& a) const {
    for_pairs(member, a, [&](int row, int block, int lane) {
      const T* gates = a.gates + block * a.gates_block + row_of(row) + lane;
      T sum[3] = {gates[0], gates[lanes], a.bias[block * lanes + lane]};
      multiply<3>(sum, weights_of(a, block, lane), a.state + row * a.state_row, 1, a.hidden);
      const T old = a.state[row * a.state_row + block * lanes + lane];
      if (a.keeps) {
        const T r = StdMath::sigmoid(sum[0]);
        keep_and_store(a, row, block, lane, r, sum[1], gates[2 * lanes] + r * sum[2], sum[2]);
        return;
      }
      store(a, row, block * lanes + lane, old,
            cell<StdMath>(sum[0], sum[1], gates[2 * lanes], T(0), T(0), sum[2], old));
    });
  }

  template <class Member>
  KOKKOS_FUNCTION void reset_step(const Member& member, const simd::StepArgs<T>& a) const {
    for_pairs(member, a, [&](int row, int block, int lane) {
      T* gates = a.gates + block * a.gates_block + row_of(row) + lane;
      T sum[2] = {gates[0], gates[lanes]};
      multiply<2>(sum, weights_of(a, block, lane), a.state + row * a.state_row, 1, a.hidden);
      const std::ptrdiff_t at = row * a.state_row + block * lanes + lane;
      const T r = reset_gate<StdMath>(sum[0], T(0));
      a.reset[at] = r * a.state[at];
      if (a.keeps) gates[0] = r;
      gates[lanes] = sum[1];
    });
  }

  template <class Member>
  KOKKOS_FUNCTION void update_step(const Member& member, const simd::StepArgs<T>& a) const {
    for_pairs(member, a, [&](int row, int block, int lane) {
      const T* gates = a.gates + block * a.gates_block + row_of(row) + lane;
      T sum[1] = {a.bias[block * lanes + lane]};
      multiply<1>(sum, weights_of(a, block, lane) + 2 * lanes, a.reset + row * a.state_row, 1, a.hidden);
      const T old = a.state[row * a.state_row + block * lanes + lane];
      if (a.keeps) {
        keep_and_store(a, row, block, lane, gates[0], gates[lanes], gates[2 * lanes] + sum[0], sum[0]);
        return;
      }
      store(a, row, block * lanes + lane, old, next_state<StdMath>(gates[lanes], T(0), gates[2 * lanes], sum[0], old));
    });
  }

  template <class Member>
  KOKKOS_FUNCTION int ranks(const Member& member) const {
    return member.league_size();
  }
  KOKKOS_FUNCTION void prefetch(const T*, int) const {}
  /// Tasks of a team; it settles before the next phase of one.
  template <class Member, class F>
  KOKKOS_FUNCTION void for_tasks(const Member& member, int n, const F& f) const {
    for (int i = member.league_rank(); i < n; i += member.league_size()) {
      f(i, member.league_rank());
      meet_team(member);
    }
  }
  template <class Member>
  KOKKOS_FUNCTION void settle(const Member& member) const {
    meet_team(member);
  }
  template <class Member>
  KOKKOS_FUNCTION void product(const Member& member, const simd::ProductArgs<T>& a) const {
    const int first = a.group_begin * 3 * lanes;
    const int end = a.group_end * 3 < a.blocks ? a.group_end * 3 * lanes : a.blocks * lanes;
    const int columns = end - first;
    for_each(member, a.rows * columns, [&](int i) {
      const int row = i / columns;
      const int column = first + i % columns;
      const T* const w = a.weights + column / (3 * lanes) * a.weights_group + column % (3 * lanes);
      const T* const v = a.a + row * a.a_row;
      T& c = a.c[row * a.c_row + column];
      for (int begin = 0; begin < a.depth; begin += simd::kProductDepth) {
        T sum(0);
        for (int k = begin; k < a.depth && k < begin + simd::kProductDepth; ++k) {
          sum += w[static_cast<std::ptrdiff_t>(k) * 3 * lanes] * v[k * a.a_k];
        }
        c += sum;
      }
    });
  }
  template <class Member>
  KOKKOS_FUNCTION void gate_gradients(const Member& member, const simd::GateGradientArgs<T>& a) const {
    for_gradients(member, a, [&](int row, int unit, const T* slots, T* sums) {
      const T dn = update_part(a, row, unit, slots, sums);
      sums[simd::kGradientR * a.padded] = reset_gradient(T(dn * slots[3 * lanes]), slots[0]);
      sums[simd::kGradientHn * a.padded] = dn * slots[0];
    });
  }
  template <class Member>
  KOKKOS_FUNCTION void update_gradients(const Member& member, const simd::GateGradientArgs<T>& a) const {
    for_gradients(member, a, [&](int row, int unit, const T* slots, T* sums) {
      sums[simd::kGradientHn * a.padded] = update_part(a, row, unit, slots, sums);
    });
  }
  template <class Member>
  KOKKOS_FUNCTION void reset_gradients(const Member& member, const simd::GateGradientArgs<T>& a) const {
    for_gradients(member, a, [&](int row, int unit, const T* slots, T* sums) {
      const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(row) * a.padded + unit;
      sums[simd::kGradientR * a.padded] = reset_gradient(T(a.reset[at] * a.state[at]), slots[0]);
      a.dh[at] += a.reset[at] * slots[0];
    });
  }

 private:
  /// f(row, unit, its kept gates, its sums) for own units of rows that have not ended; the others give zeros.
  template <class Member, class F>
  KOKKOS_FUNCTION void for_gradients(const Member& member, const simd::GateGradientArgs<T>& a, const F& f) const {
    for_pairs(member, a, [&](int row, int block, int lane) {
      const int unit = block * lanes + lane;
      T* const sums = a.sums + row * a.sums_row + unit;
      if (a.lengths != nullptr && a.time >= a.lengths[row]) {
        for (int slot = 0; slot < simd::kGradientSlots; ++slot) sums[slot * a.padded] = T(0);
      } else {
        f(row, unit, a.gates + block * a.gates_block + row_of(row) + lane, sums);
      }
    });
  }
  /// z and n, and what goes past the gates; returns the gradient of n's argument.
  KOKKOS_FUNCTION T update_part(const simd::GateGradientArgs<T>& a, int row, int unit, const T* slots, T* sums) const {
    const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(row) * a.padded + unit;
    const bool given = a.grad != nullptr && unit < a.hidden;
    const T d = a.dh[at] + (given ? a.grad[row * a.grad_row + unit * a.grad_feature] : T(0));
    const T z = slots[lanes];
    const T n = slots[2 * lanes];
    const T dn = candidate_gradient(d, z, n);
    sums[simd::kGradientZ * a.padded] = update_gradient(d, z, n, a.state[at]);
    sums[simd::kGradientN * a.padded] = dn;
    a.dh[at] = d * z;
    return dn;
  }
  KOKKOS_FUNCTION std::ptrdiff_t row_of(int row) const {
    return static_cast<std::ptrdiff_t>(row) * simd::kGateSlots * lanes;
  }
  KOKKOS_FUNCTION const T* weights_of(const simd::StepArgs<T>& a, int block, int lane) const {
    return static_cast<const T*>(a.weights) + static_cast<std::ptrdiff_t>(block) * a.hidden * 3 * lanes + lane;
  }

  /// f(row, block, lane) for every row and own unit; neighbouring threads get neighbouring lanes.
  template <class Member, class Args, class F>
  KOKKOS_FUNCTION void for_pairs(const Member& member, const Args& a, const F& f) const {
    const int units = (a.block_end - a.block_begin) * lanes;
    for_each(member, a.rows * units, [&](int i) {
      const int unit = i % units;
      f(i / units, a.block_begin + unit / lanes, unit % lanes);
    });
  }

  /// sum[g] += sum over k of w[k][g] v[k].
  template <int Gates>
  KOKKOS_FUNCTION void multiply(T (&sum)[Gates], const T* w, const T* v, std::ptrdiff_t stride, int depth) const {
    if (depth <= simd::kLongestChain) return add_chain(sum, w, v, stride, 0, depth);
    for (int begin = 0; begin < depth; begin += simd::kLongestChain) {
      T group[Gates] = {};
      const int end = depth - begin < simd::kLongestChain ? depth : begin + simd::kLongestChain;
      for (int k = begin; k < end; k += simd::kPart) {
        T part[Gates] = {};
        add_chain(part, w, v, stride, k, end - k < simd::kPart ? end : k + simd::kPart);
        for (int g = 0; g < Gates; ++g) group[g] += part[g];
      }
      for (int g = 0; g < Gates; ++g) sum[g] += group[g];
    }
  }
  /// The same for the k's in [begin, end), one after the other.
  template <int Gates>
  KOKKOS_FUNCTION void add_chain(T (&sum)[Gates], const T* w, const T* v, std::ptrdiff_t stride, int begin,
                                 int end) const {
    for (int k = begin; k < end; ++k) {
      const T value = v[k * stride];
      for (int g = 0; g < Gates; ++g) sum[g] += w[(static_cast<std::ptrdiff_t>(k) * 3 + g) * lanes] * value;
    }
  }

  /// The step of one unit whose gates stay in their slots.
  KOKKOS_FUNCTION void keep_and_store(const simd::StepArgs<T>& a, int row, int block, int lane, T r, T a_z, T a_n,
                                      T hn) const {
    T* const slots = a.gates + block * a.gates_block + row_of(row) + lane;
    const T z = StdMath::sigmoid(a_z);
    const T n = StdMath::tanh(a_n);
    slots[0] = r;
    slots[lanes] = z;
    slots[2 * lanes] = n;
    slots[3 * lanes] = hn;
    const T old = a.state[row * a.state_row + block * lanes + lane];
    store(a, row, block * lanes + lane, old, mix(z, n, old));
  }

  KOKKOS_FUNCTION void store(const simd::StepArgs<T>& a, int row, int unit, T old, T fresh) const {
    const bool ended = a.lengths != nullptr && a.time >= a.lengths[row];
    a.next[row * a.state_row + unit] = ended ? old : fresh;
    if (a.output != nullptr && unit < a.hidden) {
      const int at = a.output_order == nullptr ? row : a.output_order[row];
      static_cast<T*>(a.output)[at * a.output_row + unit * a.output_feature] = ended ? T(0) : fresh;
    }
  }
};

}  // namespace gru::kokkos
