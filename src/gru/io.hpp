// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gru/tensor.hpp"
#include "gru/weights.hpp"

namespace gru {

/// Tensors by name, as a state_dict holds them. Host memory.
using NamedTensors = std::vector<std::pair<std::string, ConstTensorView>>;

/// What a weight file does not say itself.
struct WeightOptions {
  /// What stands before "weight_ih_l0" in the names, e.g. "encoder.gru."; a missing final '.' is added. Not given: found
  /// by looking; more than one GRU is an error that lists the prefixes.
  std::optional<std::string> prefix;
  bool reset_after = true;  ///< no file says which; see Config::reset_after
};

/// Finds a GRU among named tensors and infers its Config. torch.nn.GRU's names (weight_ih_l{k}[_reverse], ...) and
/// torch.nn.GRUCell's (weight_ih, ...). The tensors stay where they are; `storage` keeps them alive. A weight that is given in
/// parts by torch.nn.utils' weight norm, spectral norm or pruning, by their parametrizations or by weight drop is computed
/// as the module does in eval mode.
/// Throws gru::Error: no GRU, an LSTM (4H rows), several GRUs and no prefix, missing tensors, extents that disagree, the
/// names of another library's GRU.
Weights weights_from_tensors(const NamedTensors& tensors, const WeightOptions& options = {},
                             std::shared_ptr<const void> storage = nullptr);

/// Weights from a safetensors file (a whole state_dict may be in it), or from the index of a sharded checkpoint
/// (model.safetensors.index.json) whose files lie beside it. The files are untrusted: every length, offset, dtype, extent
/// and name is checked. A path may also name a pipe or a descriptor (/dev/stdin). Throws gru::Error with the path; also for
/// one file of a sharded checkpoint, in which a smaller GRU would be found.
Weights load_weights(const std::filesystem::path& path, const WeightOptions& options = {});

/// All tensors of a safetensors file, or of an index' files, whose dtype the library knows, e.g. to read a layer beside the
/// GRU.
std::vector<std::pair<std::string, Tensor>> load_safetensors(const std::filesystem::path& path);

/// Writes a safetensors file, whole or not at all, that every reader of the format takes; any dtype, any rank. Throws
/// gru::Error with the path: a name that is given twice, is "__metadata__" or no UTF-8; what the disk refuses.
void save_safetensors(const std::filesystem::path& path, std::span<const std::pair<std::string, Tensor>> tensors);

/// A NumPy .npy file, format 1, 2 or 3: float16, float32, float64, int32, int64, or another type of whole numbers, which
/// becomes int64; either byte order; C or Fortran order (converted to row-major). A path may also name a pipe or a
/// descriptor. Throws gru::Error with the path.
Tensor load_npy(const std::filesystem::path& path);

/// Writes a .npy file, whole or not at all; a pipe or a descriptor gets it at once. Throws gru::Error with the path; also for
/// bfloat16, which NumPy does not have.
void save_npy(const std::filesystem::path& path, const Tensor& tensor);

/// Throws gru::Error if save_npy could not write there; creates nothing that stays.
void check_writable(const std::filesystem::path& path);

}  // namespace gru
