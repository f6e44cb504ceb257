#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

#include "backends/cuda/stream_ref.hpp"
#include "gru/backend.hpp"

namespace gru {
namespace cuda {

/// The space-independent part of CudaPersistent.
class Persistent {
 public:
  static Support supports(const Problem& problem);
  Persistent(StreamRef stream, const Problem& problem, const Weights& weights);
  Persistent(Persistent&&) noexcept;
  Persistent& operator=(Persistent&&) noexcept;
  ~Persistent();

  void execute(const Call& call);
  Persistent fork(StreamRef stream) const;
  std::size_t workspace_bytes() const;
  Status status() const;

 private:
  struct Impl;
  explicit Persistent(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cuda

/// The recurrence in one launch: the weights stay on chip for all steps, groups of blocks exchange the state through L2 or
/// inside thread-block clusters. One layer a launch, or all layers of a one-directional stack at once. Strict float32,
/// reset-after, H up to 1024. backends/cuda/README.md has the numbers.
template <class S>
class CudaPersistent {
 public:
  using Space = S;
  static constexpr std::string_view name = "cuda-persistent";

  static Support supports(const Problem& problem) { return cuda::Persistent::supports(problem); }

  CudaPersistent(const S& space, const Problem& problem, const Weights& weights)
      : space_(space), engine_(cuda::stream_of(space), problem, weights) {}

  void execute(const Call& call) { engine_.execute(call); }
  CudaPersistent fork(const S& space) const { return CudaPersistent(space, engine_.fork(cuda::stream_of(space))); }
  std::size_t workspace_bytes() const { return engine_.workspace_bytes(); }
  /// After an abort (a wait that outlasted the spin limit): not ok until the next execute, which refuses once.
  Status status() const { return engine_.status(); }

 private:
  CudaPersistent(const S& space, cuda::Persistent engine) : space_(space), engine_(std::move(engine)) {}

  S space_;  // keeps the stream alive
  cuda::Persistent engine_;
};

}  // namespace gru
