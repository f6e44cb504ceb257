// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "backends/cuda/persistent/args.hpp"
#include "backends/cuda/persistent/weights.hpp"
#include "backends/cuda/projection/args.hpp"
#include "backends/cuda/projection/input_projection.hpp"
#include "gru/tensor.hpp"

namespace gru::cuda {

/// The input shares that the launches of the persistent kernels begin with, x W_ih^T + bias for all steps: who makes
/// them, and where they lie. Of one stream.
class PersistentInputs {
 public:
  static std::size_t workspace_bytes(const Problem& problem, const PersistentSchedule& schedule);

  /// `memory`: workspace_bytes(), zeroed. `aborted`, `spin_limit`: as in PersistentArgs. Runs each layer's product
  /// once, as the library picks and loads its kernels then, which execute must not wait for.
  PersistentInputs(StreamRef stream, const Problem& problem, const PersistentSchedule& schedule,
                   std::shared_ptr<const PersistentWeights> weights, std::byte* memory, std::uint32_t* aborted,
                   std::int64_t spin_limit);

  void rebind(StreamRef stream) { stream_ = stream; }

  /// Before the launch that begins with `layer`: makes its shares from x (T, B, I), if nobody made them beside the
  /// launch before, and says in `args` where they are and whether its results are projected beside it.
  void before(std::int64_t layer, const ConstTensorView& x, PersistentArgs& args);
  /// After it: projects what it is making for the next launch, where the schedule says so.
  void beside(std::int64_t layer, const PersistentArgs& args);

 private:
  bool overlaps(std::int64_t layer) const {
    return schedule_.overlap() && layer + schedule_.layers < problem_.config.num_layers;
  }
  float* next_inputs(std::int64_t layer) const { return next_inputs_[layer / schedule_.layers % 2]; }
  ProjectionArgs projection_args(std::int64_t layer, std::int64_t steps, std::int64_t batch, std::int64_t inputs) const;
  ProjectionWeights weights_of(std::int64_t layer) const;
  ProjectedShares first_shares() const;
  void warm_up();

  StreamRef stream_;
  Problem problem_;
  PersistentSchedule schedule_;
  std::shared_ptr<const PersistentWeights> weights_;
  InputProjection projection_;
  float* first_input_ = nullptr;      // [T][B][D][3][Hp]
  float* next_inputs_[2] = {};        // overlap: [D][T][B][D][3][Hp], of one launch and the next in turn
  std::int64_t part_stride_ = 0;      // of those, from one direction of the layer below to the next
  EpochValue* next_words_ = nullptr;  // overlap: [D][T][B][Hp]
  std::size_t next_words_bytes_ = 0;
  bool words_made_ = false;            // by a launch whose projection, which ends their epoch, has not been launched
  std::uint32_t* counters_ = nullptr;  // overlap: the words' epoch - 1, blocks done
  std::uint32_t* aborted_;
  std::int64_t spin_limit_;
};

}  // namespace gru::cuda
