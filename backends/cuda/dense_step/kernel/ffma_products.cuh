// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The products of wide_ffma.cuh, which has the layout: a block's slices on their way through registers into shared memory, and a
/// thread's sums.

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>
#include <utility>

#include "backends/cuda/dense_step/ffma.hpp"
#include "backends/cuda/device/dependent_launch.cuh"

namespace gru::cuda {

/// Rows of features, and the weights that multiply them.
struct FfmaOperand {
  const float* rows;
  std::int64_t row_stride;  ///< floats, a multiple of four, not negative; all rows lie within kFfmaReach
  int count;                ///< features of a row, a multiple of four; 0: no product
  const float* weights;     ///< (3, H padded, padded)
  int padded;
};

/// Which rows a block has: slot by slot, `live` of them; order null: a slot is a row.
struct FfmaSlots {
  const int* order;
  int first, live;

  __device__ int row(int slot) const {
    const int at = min(first + slot, live - 1);
    return order != nullptr ? order[at] : at;
  }
};

/// Four floats out of L2 or zeros, by a predicate: a load in a branch of its own would be put off until its value is stored,
/// behind the products that hide its way.
__device__ inline float4 load_if(bool wanted, const float4* from) {
#if defined(__CUDA_ARCH__)
  float4 v;
  asm volatile(
      "{.reg .pred p; setp.ne.u32 p, %5, 0; mov.f32 %0, 0f00000000; mov.f32 %1, 0f00000000; mov.f32 %2, 0f00000000; "
      "mov.f32 %3, 0f00000000; @p ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];}"
      : "=&f"(v.x), "=&f"(v.y), "=&f"(v.z), "=&f"(v.w)
      : "l"(from), "r"(unsigned{wanted}));
  return v;
#else
  return wanted ? *from : make_float4(0.0F, 0.0F, 0.0F, 0.0F);
#endif
}

/// A thread's pieces of a slice: four features of a row each. Eight lanes read a line of 128 bytes.
template <class Tile>
struct FfmaCopies {
  static constexpr FfmaShape kTile = Tile::shape;
  static constexpr int kUnits = kTile.units(), kRows = kTile.rows(kFfmaRows), kDepth = kTile.depth;
  static constexpr int kPitch = ffma_pitch(kTile), kQuad = ffma_quad(kTile);
  static constexpr int kStage = kDepth / 4 * kQuad;  ///< floats
  static constexpr int kLines = kDepth / 32;
  static constexpr int kStep = kTile.threads() / (kDepth / 4);  ///< rows of all threads' pieces at once
  static constexpr int kRowPieces = kRows / kStep, kWeightPieces = 3 * kUnits / kStep;
  static constexpr int kPieces = kRowPieces + kWeightPieces;
  /// A slice comes in so many portions, beside as many of the products: fewer pieces at once where registers are short.
  static constexpr int kPortions = kDepth / 4 / kTile.splits, kPortion = (kPieces + kPortions - 1) / kPortions;
  /// Pieces of one gate, or a piece has units of one gate alone.
  static constexpr int kOfGate = kUnits / kStep;
  static_assert(kRows % kStep == 0 && kUnits % kStep == 0, "a piece is of one gate");

  int quad = static_cast<int>(threadIdx.x % 8 + threadIdx.x / 32 % kLines * 8);
  int line = static_cast<int>(threadIdx.x / 32 / kLines * 4 + threadIdx.x % 32 / 8);
  // Of the pieces, in pieces from the operand's first.
  const float4* rows;
  const float4* weights;
  unsigned row_at[kRowPieces], weight_at[kOfGate];
  unsigned gate;  ///< from gate to gate of the weights
  int left;       ///< features of the row from this thread's on

  __device__ void begin_weights(const FfmaOperand& from, int unit0, int units) {
    left = from.count - quad * 4;
    weights = reinterpret_cast<const float4*>(from.weights);
    const unsigned padded = static_cast<unsigned>(from.padded) / 4;
    gate = static_cast<unsigned>(units) * padded;
#pragma unroll
    for (int i = 0; i < kOfGate; ++i) {
      // Units past the padding repeat the last one's weights.
      const int unit = min(unit0 + line + i * kStep, units - 1);
      weight_at[i] = static_cast<unsigned>(unit) * padded + static_cast<unsigned>(quad);
    }
  }
  __device__ void begin_rows(const FfmaOperand& from, const FfmaSlots& slots) {
    rows = reinterpret_cast<const float4*>(from.rows);
    const auto stride = static_cast<unsigned>(from.row_stride / 4);
#pragma unroll
    for (int i = 0; i < kRowPieces; ++i) {
      row_at[i] = static_cast<unsigned>(slots.row(line + i * kStep)) * stride + static_cast<unsigned>(quad);
    }
  }
  /// To the next slice.
  __device__ void advance() {
    left -= kDepth;
    rows += kDepth / 4;
    weights += kDepth / 4;
  }

  /// Whether a block of kHere rows has a thread's i-th piece.
  template <int kHere>
  __device__ bool has(int i) const {
    return i >= kRowPieces || (i + 1) * kStep <= kHere || line + i * kStep < kHere;
  }
  /// Pieces kBegin to kEnd of the slice, zeros if there is none. Its row may have ended: what follows is another row, or nobody's.
  template <int kHere, int kBegin, int kEnd, int kCount>
  __device__ void load(float4 (&to)[kCount], bool more) const {
#pragma unroll
    for (int i = kBegin; i < kEnd; ++i) {
      const int w = i - kRowPieces;
      const float4* const from =
          i < kRowPieces ? rows + row_at[i] : weights + (weight_at[w % kOfGate] + w / kOfGate * gate);
      to[i - kBegin] = load_if(more && left > 0 && has<kHere>(i), from);
    }
  }
  /// A row's four features into four columns.
  template <int kHere, int kBegin, int kEnd, int kCount>
  __device__ void store(float* stage, const float4 (&from)[kCount]) const {
    float* const first = stage + quad * kQuad + line;
#pragma unroll
    for (int i = kBegin; i < kEnd; ++i) {
      if (!has<kHere>(i)) continue;
      float* const to = first + (i < kRowPieces ? i * kStep : kRows + (i - kRowPieces) * kStep);
      const float4 v = from[i - kBegin];
      to[0] = v.x;
      to[kPitch] = v.y;
      to[2 * kPitch] = v.z;
      to[3 * kPitch] = v.w;
    }
  }
};

/// A thread's sums of kRows rows x four units, and one feature's operands.
template <class Tile, int kRows>
struct FfmaSums {
  static constexpr FfmaShape kTile = Tile::shape;
  using Copies = FfmaCopies<Tile>;
  static constexpr int kQuads = kRows / 4, kPair = kRows % 4 / 2, kSingle = kRows % 2;
  static constexpr int kDown = 8 * kTile.down;  ///< threads over the rows
  static constexpr int kTeam = kTile.team(), kUnits = kTile.units(), kTileRows = kTile.rows(kRows);

  struct Feature {
    float row[kRows];
    float4 weight[3];
  };

  float sum[3][kRows][4] = {};
  float input[kRows][4];  ///< n of the input, once its product is made

  /// A warp's lanes over 8 x 4 threads: no quarter of a warp has two loads of 16 bytes in one bank.
  __device__ static unsigned lane() { return threadIdx.x % 32; }
  __device__ static unsigned warp() { return threadIdx.x % kTeam / 32; }
  __device__ static int team() { return static_cast<int>(threadIdx.x / kTeam); }
  __device__ static int down() { return static_cast<int>(warp() / kTile.across * 8 + lane() / 2 % 8); }
  __device__ static int across() { return static_cast<int>(warp() % kTile.across * 4 + lane() / 16 * 2 + lane() % 2); }
  /// The i-th row of a thread within the tile: whole quads first, then a pair, then one.
  __device__ static int row(int i) {
    if (i < 4 * kQuads) return i / 4 * 4 * kDown + down() * 4 + i % 4;
    i -= 4 * kQuads;
    if (i < 2 * kPair) return kQuads * 4 * kDown + down() * 2 + i;
    return (kQuads * 4 + kPair * 2) * kDown + down();
  }

  __device__ static void load(Feature& f, const float* at) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const float4 v = *reinterpret_cast<const float4*>(at + q * 4 * kDown + down() * 4);
      f.row[q * 4] = v.x;
      f.row[q * 4 + 1] = v.y;
      f.row[q * 4 + 2] = v.z;
      f.row[q * 4 + 3] = v.w;
    }
    if constexpr (kPair > 0) {
      const float2 v = *reinterpret_cast<const float2*>(at + kQuads * 4 * kDown + down() * 2);
      f.row[kQuads * 4] = v.x;
      f.row[kQuads * 4 + 1] = v.y;
    }
    if constexpr (kSingle > 0) f.row[kRows - 1] = at[(kQuads * 4 + kPair * 2) * kDown + down()];
#pragma unroll
    for (int g = 0; g < 3; ++g) {
      f.weight[g] = *reinterpret_cast<const float4*>(at + Copies::kRows + g * kUnits + across() * 4);
    }
  }
  __device__ void add(const Feature& f) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int g = 0; g < 3; ++g) {
        sum[g][i][0] = fmaf(f.row[i], f.weight[g].x, sum[g][i][0]);
        sum[g][i][1] = fmaf(f.row[i], f.weight[g].y, sum[g][i][1]);
        sum[g][i][2] = fmaf(f.row[i], f.weight[g].z, sum[g][i][2]);
        sum[g][i][3] = fmaf(f.row[i], f.weight[g].w, sum[g][i][3]);
      }
    }
  }
  /// A portion of the team's features of a slice, four at a time.
  __device__ void multiply(const float* stage, int portion) {
    constexpr int kQuadsHere = kTile.depth / 4 / kTile.splits / Copies::kPortions;
    const float* at = stage + (team() * Copies::kPortions + portion) * kQuadsHere * Copies::kQuad;
    Feature feature[2];
    load(feature[0], at);
#pragma unroll 1
    for (int q = 0; q < kQuadsHere; ++q) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (k < 3) load(feature[(k + 1) % 2], at + (k + 1) * Copies::kPitch);
        if (k == 3 && q + 1 < kQuadsHere) load(feature[0], at + Copies::kQuad);
        add(feature[k % 2]);
      }
      at += Copies::kQuad;
    }
  }
  __device__ void end_input() {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        input[i][j] = sum[2][i][j];
        sum[2][i][j] = 0.0F;
      }
    }
  }
};

/// sums of x W_ih^T, then of h W_hh^T, through two stages of shared memory. Step tells inputs() and state() when they begin: what
/// is not held meanwhile leaves registers to the sums.
template <class Tile, int kRows, class Step>
__device__ void ffma_products(FfmaSums<Tile, kRows>& sums, float* shared, const Step& step, const FfmaSlots& slots,
                              int unit0) {
  using Copies = FfmaCopies<Tile>;
  constexpr int kHere = FfmaSums<Tile, kRows>::kTileRows, kPieces = Copies::kPieces;
  Copies copies;
  {
    float4 first[kPieces];
    const FfmaOperand x = step.inputs();
    copies.begin_weights(x, unit0, step.units);
    float4(&of_weights)[Copies::kWeightPieces] =
        reinterpret_cast<float4(&)[Copies::kWeightPieces]>(first[Copies::kRowPieces]);
    copies.template load<kHere, Copies::kRowPieces, kPieces>(of_weights, true);
    wait_for_previous();
    copies.begin_rows(x, slots);
    copies.template load<kHere, 0, Copies::kRowPieces>(first, true);
    copies.template store<kHere, 0, kPieces>(shared, first);
  }
  __syncthreads();
  const float* stage = shared;
  float* other = shared + Copies::kStage;
#pragma unroll 1
  for (int part = 0; part < 2; ++part) {
    const int slices = ((part == 0 ? step.input_count() : step.state_count()) + Copies::kDepth - 1) / Copies::kDepth;
#pragma unroll 1
    for (int s = 0; s < slices; ++s) {
      bool more = true;
      if (s + 1 < slices) {
        copies.advance();
      } else if (part == 0 && step.state_count() > 0) {
        const FfmaOperand h = step.state();
        copies.begin_weights(h, unit0, step.units);
        copies.begin_rows(h, slots);
      } else {
        more = false;
      }
      const auto portion = [&](auto index) {
        constexpr int kAt = decltype(index)::value,
                      kBegin = kAt * Copies::kPortion < kPieces ? kAt * Copies::kPortion : kPieces;
        constexpr int kEnd = kBegin + Copies::kPortion < kPieces ? kBegin + Copies::kPortion : kPieces;
        float4 staged[Copies::kPortion];
        copies.template load<kHere, kBegin, kEnd>(staged, more);
        sums.multiply(stage, kAt);
        // After the last slice zeros go where nobody reads any more: no branch, see load_if().
        copies.template store<kHere, kBegin, kEnd>(other, staged);
      };
      [&]<int... kAt>(std::integer_sequence<int, kAt...>) { (portion(std::integral_constant<int, kAt>{}), ...); }
      (std::make_integer_sequence<int, Copies::kPortions>{});
      __syncthreads();
      float* const read = const_cast<float*>(stage);
      stage = other;
      other = read;
    }
    if (part == 0) sums.end_input();
  }
}

}  // namespace gru::cuda
