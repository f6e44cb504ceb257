// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "bench/cases.hpp"

namespace gru::bench {

/// How cuDNN shall compute: one of its algorithms and one of its precisions.
struct CudnnMode {
  std::string_view algorithm;  ///< standard, persist_static, persist_dynamic, persist_static_small_h
  std::string_view math;       ///< fp32 (FMA only), tf32, fp16, bf16
};
inline constexpr std::array<std::string_view, 4> kCudnnAlgorithms = {"standard", "persist_static", "persist_dynamic",
                                                                     "persist_static_small_h"};

/// "9.19.0"
std::string cudnn_version();

/// What a CudnnGru is made for.
enum class CudnnPass : std::uint8_t { inference, training };

/// cuDNN's GRU for one case: sequence-major, two biases, random weights and data, h0 given and h_n wanted.
class CudnnGru {
 public:
  /// Throws gru::Error, naming cuDNN's call and answer, where the algorithm does not take the case.
  /// `lengths`: of the rows, the longest first; empty: all T.
  CudnnGru(const Case& c, const CudnnMode& mode, std::span<const int> lengths, cudaStream_t stream,
           CudnnPass pass = CudnnPass::inference);
  CudnnGru(const CudnnGru&) = delete;
  CudnnGru& operator=(const CudnnGru&) = delete;
  ~CudnnGru();
  void forward();  ///< cudnnRNNForward
  /// Of training: cudnnRNNBackwardData_v8 from a random gradient of the output, and cudnnRNNBackwardWeights_v8 into zeros.
  void backward();
  /// Device memory of tensors, weights, gradients, workspace and reserve.
  std::size_t bytes() const;

  /// Algorithms that a quick comparison need not try: persistent ones for large batches, which they serve a few rows at a
  /// time. bench/README.md says how often that was looked up.
  static bool surely_slower(const Case& c, std::string_view algorithm);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gru::bench
