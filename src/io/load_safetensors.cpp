// SPDX-License-Identifier: Apache-2.0
#include "gru/io.hpp"
#include "io/checkpoint.hpp"
#include "io/safetensors.hpp"

namespace gru {

std::vector<std::pair<std::string, Tensor>> load_safetensors(const std::filesystem::path& path) {
  Checkpoint checkpoint{InputFile(path)};
  return read_tensors(checkpoint);
}

std::vector<std::pair<std::string, Tensor>> read_tensors(Checkpoint& checkpoint) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (std::size_t i = 0; i < checkpoint.tensors().size(); ++i) {
    const SafetensorsEntry& entry = checkpoint.tensors()[i];
    if (!entry.dtype) continue;
    Tensor tensor = checkpoint.make_tensor(*entry.dtype, entry.extents);
    checkpoint.read(i, tensor.bytes());
    tensors.emplace_back(entry.name, std::move(tensor));
  }
  return tensors;
}

}  // namespace gru
