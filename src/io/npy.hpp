#pragma once

#include <filesystem>

#include "gru/tensor.hpp"
#include "io/file.hpp"

namespace gru {

/// A .npy file written but not yet in its place: several results can be staged first and then committed together.
OutputFile stage_npy(const std::filesystem::path& path, const Tensor& tensor);

}  // namespace gru
