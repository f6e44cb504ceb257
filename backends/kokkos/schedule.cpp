// SPDX-License-Identifier: Apache-2.0
#include "backends/kokkos/schedule.hpp"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace gru::kokkos {
namespace {

/// Every constant with the resource that it stands for; cycles of one core.
struct Costs {
  static constexpr double kMultiplyAdds = 2;    // registers multiplied and added a cycle: two FMA pipes
  static constexpr double kL1Bytes = 100;       // bytes a cycle from L1: two loads of a register, less conflicts
  static constexpr double kL2Bytes = 36;        // ... from L2
  static constexpr double kL3Bytes = 14;        // ... from L3, all cores at once
  static constexpr double kL1Size = 32 * 1024;  // the smallest L1 in use
  static constexpr double kGateCycles = 30;     // one register of new states: two sigmoids, one tanh
  static constexpr double kRound = 500;         // of a meeting, which takes log2 of the threads' number: 0.2 us
  static constexpr double kSlowest = 1.03;      // threads that meet wait for the slowest of them
  static constexpr double kDispatch = 8000;     // waking the pool and sending it back to sleep
  static constexpr double kTimeSlice = 50000;   // each thread of the pool that has to wait for a processor
};
/// Rows (step, row) of one projection: so many pass over a block of W_ih that its load from L2 or L3 is hidden.
constexpr int kProjectRows = 256;
/// The same in a wavefront, whose weights stay in L2. Few, as each layer starts a chunk later than the one below.
constexpr int kWavefrontRows = 32;
/// Rows of a tile whose weights do not fit L2: so many share one pass over W_hh.
constexpr int kStreamRows = 128;
static_assert(kProjectRows >= 2 * kStreamRows, "a step of a tile is projected at once");

/// The rate at which a thread walks `resident` bytes again and again, to and fro: what fits L2 comes from there.
double bytes_a_cycle(double resident, double l2_size) {
  if (resident <= Costs::kL1Size) return Costs::kL1Bytes;
  const double kept = std::min(1.0, l2_size / resident);
  return 1 / (kept / Costs::kL2Bytes + (1 - kept) / Costs::kL3Bytes);
}

struct Sizes {
  double blocks, input, hidden, layers, directions, batch, steps;
  double block_bytes;    // of the weights that one register of units multiplies with one state
  double register_rows;  // of the largest register tile
  double l2_size;
  bool reset_after;
  double cell_bytes(double features) const { return blocks * 3 * block_bytes * features; }
};

/// Cycles in which `registers` of weights, which come in at `rate`, multiply each of `rows` rows: the first register tile
/// waits for them, the next ones find them in L1.
double product_cycles(const Sizes& s, double registers, double rows, double rate) {
  const double first = rows / std::ceil(rows / s.register_rows);
  return std::max(registers * first / Costs::kMultiplyAdds, registers * s.block_bytes / rate) +
         registers * (rows - first) / Costs::kMultiplyAdds;
}

/// Whether steps project beside their own product: where that one waits for weights that one row comes by. Not in a wavefront,
/// whose layers below are not far enough ahead.
bool projects_beside(const Sizes& s, const HostTraits& host, const Schedule& c, double own) {
  return host.beside_depth > 0 && c.tile_rows == 1 && c.layers_in_flight == 1 && c.chunk_steps > 1 &&
         c.chunk_steps < s.steps && static_cast<int>(s.hidden) % host.beside_depth == 0 &&
         own * 3 * s.hidden * s.block_bytes > 2 * Costs::kL1Size;
}

/// Cycles of one step of one (layer, direction), projection included, for one thread with `own` blocks and `rows` rows
/// whose weights share the caches with `resident` bytes.
double step_cycles(const Sizes& s, double own, double rows, double features, double resident, const Schedule& c) {
  const double rate = bytes_a_cycle(resident, s.l2_size);
  // Layer after layer, W_hh drives W_ih out of L2 between two chunks.
  const double input_rate = c.layers_in_flight > 1 ? rate : Costs::kL3Bytes;
  const double gates = own * rows * Costs::kGateCycles;
  if (c.gate_buffers == 2) {
    const double loaded = own * 3 * (s.hidden + features / s.register_rows) * s.block_bytes;
    return std::max(own * 3 * (s.hidden + features) / Costs::kMultiplyAdds, loaded / rate) + gates;
  }
  return product_cycles(s, own * 3 * s.hidden, rows, rate) +
         product_cycles(s, own * 3 * features, rows * c.chunk_steps, input_rate) / c.chunk_steps + gates;
}

double meeting_cycles(int team_size) {
  return Costs::kRound * static_cast<double>(std::bit_width(static_cast<unsigned>(team_size - 1)));
}

/// Rows that one team takes at a time when `rows` are its share.
int tile_rows(const Sizes& s, const HostTraits& host, int rows, int team_size) {
  const double weights = s.cell_bytes(s.hidden) / team_size;
  if (weights > s.l2_size / 2) return std::min(rows, kStreamRows);
  // The weights stay in L2 whatever the tile; so should the tile's states and gates. A few hundred rows a step are also
  // what it takes to walk x and the output in long runs: short ones wait for the page tables.
  const double row_bytes = static_cast<double>(host.element_bytes) * s.blocks * host.lanes * 6;
  const int fitting = static_cast<int>(s.l2_size / 4 / row_bytes);
  return std::min(rows, std::clamp(fitting, 2 * host.register_rows, 2 * kStreamRows));
}

int chunk_steps(const Sizes& s, const HostTraits& host, int rows) {
  const double features = std::max(s.input, s.layers > 1 ? s.directions * s.hidden : 0);
  int steps = std::max(1, kProjectRows / rows);
  if (s.cell_bytes(features) <= Costs::kL1Size / 2) {
    // W_ih stays in L1 anyway: better that the gates do, too.
    const double step_bytes = static_cast<double>(host.element_bytes) * s.blocks * host.lanes * 4 * rows;
    steps = std::clamp(static_cast<int>(Costs::kL1Size / 4 / step_bytes), 1, steps);
  }
  return std::min(steps, static_cast<int>(s.steps));
}

struct Estimate {
  Schedule schedule;
  double cycles = 0;
};

Estimate estimate(const Sizes& s, const HostTraits& host, int teams, int team_size, bool wavefront) {
  const int batch = static_cast<int>(s.batch);
  Schedule c;
  c.teams = teams;
  c.team_size = team_size;
  const int share = (batch + teams - 1) / teams;
  c.tile_rows = tile_rows(s, host, share, team_size);
  c.tile_rows = (share + (share + c.tile_rows - 1) / c.tile_rows - 1) / ((share + c.tile_rows - 1) / c.tile_rows);
  c.chunk_steps = chunk_steps(s, host, c.tile_rows);
  c.layers_in_flight = wavefront ? static_cast<int>(s.layers) : 1;
  if (wavefront) c.chunk_steps = std::min(c.chunk_steps, std::max(1, kWavefrontRows / c.tile_rows));

  const bool alone = team_size == 1 || (team_size == 2 && s.directions == 2);
  const double own = team_size == 1 ? s.blocks * s.directions
                                    : static_cast<int>((s.blocks * s.directions + team_size - 1) / team_size);
  if (s.reset_after && projects_beside(s, host, c, own / s.directions)) c.gate_buffers = 2;
  const double upper = s.directions * s.hidden;
  const double cell_bytes = 3 * s.block_bytes * own;
  const double resident = wavefront ? cell_bytes * (s.layers * s.hidden + s.input + (s.layers - 1) * upper)
                                    : cell_bytes * s.hidden / (alone && team_size == 1 ? s.directions : 1);
  const double rows = c.tile_rows;
  double step =
      step_cycles(s, own, rows, s.input, resident, c) + (s.layers - 1) * step_cycles(s, own, rows, upper, resident, c);
  if (!alone) step *= Costs::kSlowest;
  const double barrier = alone ? 0 : meeting_cycles(team_size);
  // The work is the same either way: a wavefront's first and last stages have fewer layers in flight. It saves meetings.
  const double meetings = wavefront ? s.steps + (s.layers - 1) * c.chunk_steps : s.steps * s.layers;
  const double tiles = (share + c.tile_rows - 1) / c.tile_rows;
  const int waiting = std::max(0, host.pool_threads - host.threads);
  const double dispatch = teams * team_size > 1 ? Costs::kDispatch + Costs::kTimeSlice * waiting : 0;
  return {c, tiles * (s.steps * step + meetings * barrier) + dispatch};
}

}  // namespace

std::size_t host_l2_bytes() {
  constexpr long kLeast = 256L << 10, kMost = 2L << 20, kUntold = 1L << 20;
#if defined(_SC_LEVEL2_CACHE_SIZE)
  // Asked once: a virtual machine leaves to its host for each answer.
  static const long told = ::sysconf(_SC_LEVEL2_CACHE_SIZE);
#else
  static constexpr long told = 0;
#endif
  return static_cast<std::size_t>(told > 0 ? std::clamp(told, kLeast, kMost) : kUntold);
}

Schedule schedule_for_host(const Problem& problem, const HostTraits& host) {
  const Config& c = problem.config;
  const auto blocks = static_cast<double>((c.hidden_size + host.lanes - 1) / host.lanes);
  const Sizes s{blocks,
                static_cast<double>(c.input_size),
                static_cast<double>(c.hidden_size),
                static_cast<double>(c.num_layers),
                static_cast<double>(c.num_directions()),
                static_cast<double>(std::max<std::int64_t>(problem.options.batch_size, 1)),
                static_cast<double>(problem.options.seq_len),
                static_cast<double>(host.lanes) * static_cast<double>(host.element_bytes) / host.per_element,
                static_cast<double>(host.register_rows),
                static_cast<double>(host.l2_bytes),
                c.reset_after};
  Estimate best = estimate(s, host, 1, 1, false);
  const int most_teams = static_cast<int>(std::min<double>(host.threads, s.batch));
  for (int teams = 1; teams <= most_teams; ++teams) {
    const int most_threads = static_cast<int>(std::min<double>(host.threads / teams, s.blocks * s.directions));
    for (const int team_size : {1, most_threads}) {
      for (const bool wavefront : {false, true}) {
        if (wavefront && (problem.options.dropout > 0 || s.directions > 1 || s.layers == 1 || team_size == 1)) continue;
        const Estimate next = estimate(s, host, teams, team_size, wavefront);
        if (next.cycles < best.cycles) best = next;
      }
    }
  }
  return best.schedule;
}

Schedule schedule_for_device(const Problem& problem, int lanes, int team_size_max) {
  constexpr int kTeams = 2048;      // a workspace for each; more than any device runs at once
  constexpr int kThreads = 256;     // so that several teams share a multiprocessor
  constexpr int kDeviceChunk = 16;  // steps projected between two barriers; bounds the gates workspace
  const auto padded = static_cast<int>((problem.config.hidden_size + lanes - 1) / lanes * lanes);
  Schedule s;
  const auto batch = static_cast<int>(std::max<std::int64_t>(problem.options.batch_size, 1));
  s.teams = std::min(batch, kTeams);
  s.team_size =
      std::max(1, std::min({padded * static_cast<int>(problem.config.num_directions()), kThreads, team_size_max}));
  s.tile_rows = (batch + s.teams - 1) / s.teams;
  s.chunk_steps = static_cast<int>(std::min<std::int64_t>(problem.options.seq_len, kDeviceChunk));
  return s;
}

}  // namespace gru::kokkos
