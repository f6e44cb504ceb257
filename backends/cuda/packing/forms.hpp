// SPDX-License-Identifier: Apache-2.0
#pragma once

/// In which order kernels read the weights: one map for each form, from an element of packed memory to the element of
/// torch's matrix that lies there. The kernel that packs and the tests on a host ask the same functions.
///
/// Torch's matrix is (3H, K), gate after gate (r, z, n); a map gives gate, unit and column. What is outside of H or K
/// is padding and becomes 0. A map is asked for each of `count` elements; `to` is where the element lies.

#include <cstdint>

#include "backends/cuda/persistent/schedule/lane_map.hpp"
#include "backends/cuda/single_block/mma_tile.hpp"
#include "gru/cell.hpp"

namespace gru::cuda {

template <class Index>
struct PackedPlace {
  Index to = 0;  ///< elements from the matrix's first
  int gate = 0, unit = 0, column = 0;
};

/// (3, units, pitch): gate after gate, unit after unit. K is one part or two, the outputs of one or two directions of
/// the layer below, each padded.
struct RowsForm {
  int units;              ///< H padded
  int pitch;              ///< K padded
  int part, part_padded;  ///< columns of a part

  GRU_FUNCTION constexpr std::int64_t count() const { return std::int64_t{3} * units * pitch; }
  template <class Index>
  GRU_FUNCTION constexpr PackedPlace<Index> place(Index i) const {
    const auto row = static_cast<int>(i / pitch), k = static_cast<int>(i % pitch);
    const int in_part = k % part_padded;
    const int column = in_part < part ? k / part_padded * part + in_part : kNowhere;
    return {i, row / units, row % units, column};
  }
  static constexpr int kNowhere = 0x7fffffff;  ///< a column that no matrix has
};

/// (pitch, units, 3): what our projection's tiles read, columns first and a unit's three gates side by side.
struct GatesForm {
  int units;  ///< H padded
  int pitch;  ///< K padded

  GRU_FUNCTION constexpr std::int64_t count() const { return std::int64_t{3} * units * pitch; }
  template <class Index>
  GRU_FUNCTION constexpr PackedPlace<Index> place(Index i) const {
    const Index of_unit = i / 3;
    return {i, static_cast<int>(i % 3), static_cast<int>(of_unit % units), static_cast<int>(of_unit / units)};
  }
};

/// [block][vector][product thread][4]: the persistent kernels' registers (LaneMap).
struct LanesForm {
  LaneMap lanes;
  int blocks;

  GRU_FUNCTION constexpr std::int64_t count() const {
    return std::int64_t{blocks} * lanes.vectors() * lanes.threads() * 4;
  }
  template <class Index>
  GRU_FUNCTION constexpr PackedPlace<Index> place(Index i) const {
    const Index vectors = i / 4;
    const int thread = static_cast<int>(vectors % lanes.threads());
    const auto of_block = static_cast<int>(vectors / lanes.threads());
    const int vector = of_block % lanes.vectors(), block = of_block / lanes.vectors();
    return {i, lanes.gate(vector), block * lanes.units + lanes.unit(thread, lanes.lane_unit(vector)),
            lanes.column(thread, lanes.piece(vector)) + static_cast<int>(i % 4)};
  }
};

/// [block][vector][product thread][8]: the persistent kernels' registers for products of 16 bits (MmaLaneMap).
struct MmaLanesForm {
  MmaLaneMap lanes;
  int blocks;

  GRU_FUNCTION constexpr std::int64_t count() const {
    return std::int64_t{blocks} * lanes.vectors() * lanes.threads() * 8;
  }
  template <class Index>
  GRU_FUNCTION constexpr PackedPlace<Index> place(Index i) const {
    const Index vectors = i / 8;
    const int element = static_cast<int>(i % 8), thread = static_cast<int>(vectors % lanes.threads());
    const auto of_block = static_cast<int>(vectors / lanes.threads());
    const int vector = of_block % lanes.vectors(), block = of_block / lanes.vectors();
    return {i, lanes.gate(vector), block * lanes.units + lanes.unit(thread, element),
            lanes.column(thread, lanes.piece(vector), element)};
  }
};

/// [warp][vector][lane][8]: the registers of a team for products of 16 bits (SmallMmaMap), of W_hh or of W_ih.
struct MmaTeamForm {
  SmallMmaMap map;
  bool of_state;

  GRU_FUNCTION constexpr int vectors() const {
    return of_state ? map.state_vectors() : map.vectors() - map.state_vectors();
  }
  GRU_FUNCTION constexpr std::int64_t count() const { return std::int64_t{map.warps} * vectors() * 32 * 8; }
  template <class Index>
  GRU_FUNCTION constexpr PackedPlace<Index> place(Index i) const {
    const int element = static_cast<int>(i % 8), lane = static_cast<int>(i / 8 % 32);
    const auto of_lanes = static_cast<int>(i / 256);
    const int warp = of_lanes / vectors(), vector = of_lanes % vectors() + (of_state ? 0 : map.state_vectors());
    const Index to = ((static_cast<Index>(warp) * map.vectors() + vector) * 32 + lane) * 8 + element;
    return {to, map.gate(vector), map.unit(warp, lane, vector, element), map.column(lane, vector, element)};
  }
};

/// [warp][vector][lane][4]: the registers of a team of warps, each of which holds `units` hidden units; `depth` columns
/// a lane, from vector `first` on of the `vectors` that a lane has in all.
struct TeamForm {
  int units;  ///< of a warp; the 32 / units lane groups split the columns
  int warps;
  int depth;
  int first, vectors;

  GRU_FUNCTION constexpr std::int64_t count() const { return std::int64_t{warps} * 3 * depth * 32; }
  template <class Index>
  GRU_FUNCTION constexpr PackedPlace<Index> place(Index i) const {
    const int pieces = depth / 4, lane = static_cast<int>(i / 4 % 32);
    const auto of_lanes = static_cast<int>(i / 128);
    const int vector = of_lanes % (3 * pieces), warp = of_lanes / (3 * pieces);
    const Index to = ((static_cast<Index>(warp) * vectors + first + vector) * 32 + lane) * 4 + i % 4;
    return {to, vector / pieces, warp * units + lane % units,
            (vector % pieces * (32 / units) + lane / units) * 4 + static_cast<int>(i % 4)};
  }
};

/// (tiles of `group` units, pitch, 3, group): simt_recurrent.cu.
struct TiledForm {
  int units;  ///< H padded
  int pitch;  ///< K padded
  int group;

  GRU_FUNCTION constexpr std::int64_t count() const { return std::int64_t{3} * units * pitch; }
  template <class Index>
  GRU_FUNCTION constexpr PackedPlace<Index> place(Index i) const {
    const Index gates = i / group, columns = gates / 3;
    return {i, static_cast<int>(gates % 3), static_cast<int>(columns / pitch) * group + static_cast<int>(i % group),
            static_cast<int>(columns % pitch)};
  }
};

/// Slices of eight pieces of 16 bytes, each (3 * units, slice) with `group` units' gates adjacent and pieces permuted, so
/// that what a slice is read by has no bank conflicts: hopper_step.cu and hopper_sequence.cu.
struct SlicedForm {
  int units;  ///< H padded
  int pitch;  ///< K padded
  int group;
  int features = 4;               ///< of a piece: eight of 16 bits
  int part = 0, part_padded = 0;  ///< columns of a part, as in RowsForm; 0: one part

  GRU_FUNCTION constexpr std::int64_t count() const { return std::int64_t{3} * units * pitch; }
  template <class Index>
  GRU_FUNCTION constexpr PackedPlace<Index> place(Index i) const {
    const int columns = 8 * features;
    const Index rows = i / columns;
    const auto in_row = static_cast<int>(i % columns), row = static_cast<int>(rows % (3 * units));
    const auto slice = static_cast<int>(rows / (3 * units));
    const int piece = in_row / features ^ row % 8;
    int column = slice * columns + piece * features + in_row % features;
    if (part > 0) {
      const int in_part = column % part_padded;
      column = in_part < part ? column / part_padded * part + in_part : RowsForm::kNowhere;
    }
    return {i, row / group % 3, row / group / 3 * group + row % group, column};
  }
};

/// The biases of a cell as kernels add them: (3, units) that goes with W_ih x, and (units), `apart` elements behind the
/// first, that r scales with W_hn h. `gate` 3 is the latter. Columns do not count.
struct BiasForm {
  int units;  ///< H padded
  std::int64_t apart;

  GRU_FUNCTION constexpr std::int64_t count() const { return std::int64_t{4} * units; }
  template <class Index>
  GRU_FUNCTION constexpr PackedPlace<Index> place(Index i) const {
    const auto gate = static_cast<int>(i / units), unit = static_cast<int>(i % units);
    return {gate < 3 ? i : static_cast<Index>(apart + unit), gate, unit, 0};
  }
};

/// b_ir + b_hr, b_iz + b_hz, b_in and b_hn by gate, folded in double so that folding costs one rounding. Reset-before
/// scales nothing after the product: b_in + b_hn, and nothing at gate 3. ih and hh: torch's biases of the gate, n's for
/// gate 3.
GRU_FUNCTION constexpr double folded_bias(int gate, bool reset_after, double ih, double hh) {
  if (gate == 3) return reset_after ? hh : 0.0;
  return gate == 2 && reset_after ? ih : ih + hh;
}

/// One of them.
struct PackForm {
  enum class Kind : std::uint8_t { rows, gates, lanes, mma_lanes, team, mma_team, tiled, sliced, bias };
  Kind kind = Kind::rows;
  union {
    RowsForm rows;
    GatesForm gates;
    LanesForm lanes;
    MmaLanesForm mma_lanes;
    TeamForm team;
    MmaTeamForm mma_team;
    TiledForm tiled;
    SlicedForm sliced;
    BiasForm bias;
  };

  constexpr PackForm() : rows{} {}
  // NOLINTBEGIN(google-explicit-constructor): a form is any of them
  constexpr PackForm(const RowsForm& form) : kind(Kind::rows), rows(form) {}
  constexpr PackForm(const GatesForm& form) : kind(Kind::gates), gates(form) {}
  constexpr PackForm(const LanesForm& form) : kind(Kind::lanes), lanes(form) {}
  constexpr PackForm(const MmaLanesForm& form) : kind(Kind::mma_lanes), mma_lanes(form) {}
  constexpr PackForm(const TeamForm& form) : kind(Kind::team), team(form) {}
  constexpr PackForm(const MmaTeamForm& form) : kind(Kind::mma_team), mma_team(form) {}
  constexpr PackForm(const TiledForm& form) : kind(Kind::tiled), tiled(form) {}
  constexpr PackForm(const SlicedForm& form) : kind(Kind::sliced), sliced(form) {}
  constexpr PackForm(const BiasForm& form) : kind(Kind::bias), bias(form) {}
  // NOLINTEND(google-explicit-constructor)

  GRU_FUNCTION constexpr std::int64_t count() const {
    switch (kind) {
      case Kind::gates: return gates.count();
      case Kind::lanes: return lanes.count();
      case Kind::mma_lanes: return mma_lanes.count();
      case Kind::team: return team.count();
      case Kind::mma_team: return mma_team.count();
      case Kind::tiled: return tiled.count();
      case Kind::sliced: return sliced.count();
      case Kind::bias: return bias.count();
      default: return rows.count();
    }
  }
  template <class Index>
  GRU_FUNCTION constexpr PackedPlace<Index> place(Index i) const {
    switch (kind) {
      case Kind::gates: return gates.place(i);
      case Kind::lanes: return lanes.place(i);
      case Kind::mma_lanes: return mma_lanes.place(i);
      case Kind::team: return team.place(i);
      case Kind::mma_team: return mma_team.place(i);
      case Kind::tiled: return tiled.place(i);
      case Kind::sliced: return sliced.place(i);
      case Kind::bias: return bias.place(i);
      default: return rows.place(i);
    }
  }
};

}  // namespace gru::cuda
