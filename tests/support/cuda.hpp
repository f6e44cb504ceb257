// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "gru/tensor.hpp"

// What the tests of CUDA streams share.

namespace gru {

inline void require(cudaError_t code) { REQUIRE_MESSAGE(code == cudaSuccess, cudaGetErrorString(code)); }

/// float32 values in [-1, 1) that the seed decides.
inline Tensor random_tensor(std::vector<std::int64_t> extents, unsigned seed) {
  Tensor tensor(DType::float32, std::move(extents));
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> draw(-1.0F, 1.0F);
  for (std::int64_t i = 0; i < tensor.size(); ++i) tensor.data<float>()[i] = draw(engine);
  return tensor;
}

/// Bit for bit.
inline bool same(const Tensor& a, const Tensor& b) {
  return a.size_bytes() == b.size_bytes() && std::memcmp(a.bytes(), b.bytes(), a.size_bytes()) == 0;
}

}  // namespace gru
