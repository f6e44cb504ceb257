// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "gru/tensor.hpp"
#include "io/names/gru_names.hpp"

namespace gru {

/// A weight that is stored in parts, as torch.nn.utils' weight norm, spectral norm, pruning and parametrizations do, and as
/// weight drop does. Its plain tensor is computed as the module computes it in eval mode.
struct DerivedWeight {
  enum class Kind : std::uint8_t {
    unknown,        ///< info.problem says which and what to do
    copy,           ///< {raw}: dropout is off in eval mode
    weight_norm,    ///< {g, v}: v * g / ||v||, the norm over what g's extents leave
    masked,         ///< {orig, mask}: their product
    spectral_norm,  ///< {orig, u, v}: orig / (u^T orig v)
  };
  Kind kind = Kind::unknown;
  TensorInfo info;                 ///< the plain tensor
  std::vector<std::size_t> parts;  ///< tensors in the list that was searched
};

/// The weights of GRUs that the tensors hold in parts. A plain tensor that a part replaces (a copy that weight drop has left)
/// loses its name.
std::vector<DerivedWeight> find_derived_weights(std::vector<TensorInfo>& tensors);

/// The plain tensor; parts in the order of DerivedWeight::parts. float64 if the parts are, else float32.
Tensor compute_derived_weight(const DerivedWeight& weight, const std::vector<ConstTensorView>& parts);

}  // namespace gru
