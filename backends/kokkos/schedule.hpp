// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "gru/problem.hpp"

namespace gru::kokkos {

/// How a GRU is shared out: who works on which rows of the batch, and how many steps are projected at once.
struct Schedule {
  int teams = 1;             ///< teams at work; team i takes the batch tiles i, i + teams, ...
  int team_size = 1;         ///< threads of a team; they share out the hidden units
  int tile_rows = 1;         ///< rows of the batch in a tile
  int chunk_steps = 1;       ///< steps whose input part is computed at once
  int layers_in_flight = 1;  ///< 1: layer after layer; L: a wavefront, each layer chunk_steps behind the one below
  int gate_buffers = 1;      ///< 2: the next chunk's input part is computed beside the steps of this one
};

/// What a machine gives to one thread, in the units of the cost model.
struct HostTraits {
  int threads = 1;        ///< that run at the same time
  int pool_threads = 1;   ///< that a dispatch wakes; more than `threads` if they share processors
  int lanes = 1;          ///< elements of a register
  int register_rows = 1;  ///< rows of the largest register tile
  std::size_t element_bytes = 4;
  int per_element = 1;                 ///< weights in an element
  std::size_t l2_bytes = 1024 * 1024;  ///< of a core's own cache
  int beside_depth = 0;                ///< of simd::Kernels::step_beside; 0: there is none
};

/// The L2 cache of this machine's cores as the system tells it, at most 2 MB (larger ones serve several cores); 1 MB where it
/// does not.
std::size_t host_l2_bytes();

/// The schedule with the least estimated time for this problem on a host.
Schedule schedule_for_host(const Problem& problem, const HostTraits& host);

/// Many small teams: a device hides latency by their number.
Schedule schedule_for_device(const Problem& problem, int lanes, int team_size_max);

}  // namespace gru::kokkos
