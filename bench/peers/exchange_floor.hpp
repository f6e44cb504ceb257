// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

namespace gru::bench {

/// What every recurrence in one launch pays: thread blocks that each own a share of a state pass it round, once a step, and
/// do nothing else. Through L2 as words that carry their epoch, or inside one thread-block cluster (sm_90).
class ExchangeFloor {
 public:
  /// `values` floats among `blocks` blocks, a multiple of four each, for `steps` steps.
  ExchangeFloor(int values, int blocks, int steps, bool cluster, cudaStream_t stream);
  /// The device and this build have clusters of so many blocks.
  static bool has_clusters(int blocks);
  /// One launch of all steps.
  void run();

 private:
  int values_, blocks_, steps_;
  bool cluster_;
  unsigned epoch_ = 0;
  cudaStream_t stream_;
  std::shared_ptr<void> words_;
};

}  // namespace gru::bench
