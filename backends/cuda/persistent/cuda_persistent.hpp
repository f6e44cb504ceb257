#pragma once

#include <cstddef>
#include <string_view>
#include <utility>
#include <variant>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/persistent/persistent.hpp"
#include "backends/cuda/single_block/single_block.hpp"

namespace gru {
namespace cuda {

/// The space-independent part of CudaPersistent: few units in single blocks, more in groups of blocks, whichever is
/// estimated to be faster where both can.
class PersistentEngine {
 public:
  static constexpr std::string_view name = "cuda-persistent";

  using EitherSchedule = std::variant<SmallSchedule, PersistentSchedule>;
  static Decision<EitherSchedule> decide(const Problem& problem);
  PersistentEngine(StreamRef stream, const Problem& problem, Decision<EitherSchedule> decision, const Weights& weights);

  void execute(const Call& call);
  PersistentEngine fork(StreamRef stream) const;
  void rebind(StreamRef stream);  ///< another stream of the same device
  std::size_t workspace_bytes() const;
  Status status() const;

 private:
  using Either = std::variant<SmallPersistent, Persistent>;
  explicit PersistentEngine(Either either) : either_(std::move(either)) {}
  static Either make(StreamRef stream, const Problem& problem, EitherSchedule schedule, const Weights& weights);

  Either either_;
};

}  // namespace cuda

/// The recurrence in one launch: the weights stay on chip for all steps. Few hidden units live in single blocks, which
/// exchange nothing; else groups of blocks exchange the state through L2 or inside thread-block clusters. One layer a
/// launch, or several layers of a one-directional stack at once. Float32, reset-after; in TF32 mode the dense input
/// projections are made in TF32. backends/cuda/README.md has the sizes and the numbers. After an abort (a wait that
/// outlasted the spin limit) status() is not ok until the next execute, which refuses: once, if the aborted one has ended.
template <class S>
using CudaPersistent = cuda::OnStream<S, cuda::PersistentEngine>;

}  // namespace gru
