// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "backends/storage/conversion.hpp"
#include "gru/call.hpp"
#include "gru/cuda_stream.hpp"
#include "gru/detail/kokkos_space.hpp"
#include "gru/training.hpp"
#include "gru/weights.hpp"

namespace gru::storage {

/// Launches the conversions on the instance; allocates nothing. `half`: the dtype of 16 bits. `label`: lives as long as
/// the plan.
template <KokkosSpace S>
void convert(const S& space, const std::string& label, const Conversions& conversions, DType half, Way way);
void convert(const CudaStream& space, const std::string& label, const Conversions& conversions, DType half, Way way);

/// Throws gru::Error that names the tensor, for memory that a CUDA device cannot read: the backends' own check comes
/// after the first conversion.
template <KokkosSpace S>
void require_reachable(const S& space, const Call& call);
template <KokkosSpace S>
void require_reachable(const S& space, const BackwardCall& call);
template <KokkosSpace S>
void require_reachable(const S& space, std::span<const CellWeights> cells);
void require_reachable(const CudaStream& space, const Call& call);
void require_reachable(const CudaStream& space, const BackwardCall& call);
void require_reachable(const CudaStream& space, std::span<const CellWeights> cells);

}  // namespace gru::storage
