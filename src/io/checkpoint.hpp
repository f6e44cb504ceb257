// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "io/file.hpp"
#include "io/safetensors.hpp"

namespace gru {

/// Which file of a sharded checkpoint holds which tensor: the "weight_map" of model.safetensors.index.json.
using WeightMap = std::vector<std::pair<std::string, std::string>>;

/// Reads an index. It is untrusted: a name that is given twice, or a file's name that is more than a name (a path, "..",
/// a type of file that cannot be read), is a gru::Error.
WeightMap read_index(InputFile& file);

/// The tensors of a safetensors file, or those of several files by their index.
class Checkpoint {
 public:
  /// Reads the headers. Throws gru::Error: what is wrong with a file; an index that names files that are not there, or that
  /// disagrees with what they hold.
  explicit Checkpoint(InputFile file);

  const std::vector<SafetensorsEntry>& tensors() const { return tensors_; }
  const std::string& name() const { return name_; }  ///< for messages

  /// Throws gru::Error if this is one file of several: by its name, by an index beside it or by what its header says.
  void require_whole() const;

  /// The bytes of tensors()[i].
  void read(std::size_t i, void* to);

  /// make(), or gru::Error for want of so many bytes of memory.
  template <class Make>
  auto with_memory(std::uint64_t bytes, const Make& make) const {
    return open_->with_memory(bytes, make);
  }
  Tensor make_tensor(DType dtype, const std::vector<std::int64_t>& extents) const {
    return open_->make_tensor(dtype, extents);
  }

 private:
  void read_shards(const WeightMap& map, const std::filesystem::path& folder);
  void open_shard(std::size_t shard);

  std::string name_;
  std::optional<InputFile> open_;  ///< the file, or the shard that was read last
  std::size_t open_shard_ = 0;
  std::vector<std::filesystem::path> shards_;  ///< empty if there is one file
  std::vector<SafetensorsEntry> tensors_;
  std::vector<std::size_t> shard_of_;  ///< of each tensor
  std::vector<std::pair<std::string, std::string>> metadata_;
};

/// All tensors whose dtype the library knows.
std::vector<std::pair<std::string, Tensor>> read_tensors(Checkpoint& checkpoint);

}  // namespace gru
