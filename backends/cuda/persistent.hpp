#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "backends/cuda/on_stream.hpp"

namespace gru {
namespace cuda {

/// The space-independent part of CudaPersistent.
class Persistent {
 public:
  static constexpr std::string_view name = "cuda-persistent";

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
/// After an abort (a wait that outlasted the spin limit) status() is not ok until the next execute, which refuses once.
template <class S>
using CudaPersistent = cuda::OnStream<S, cuda::Persistent>;

}  // namespace gru
