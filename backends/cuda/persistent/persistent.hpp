#pragma once

#include <cstddef>
#include <memory>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/persistent/schedule.hpp"
#include "gru/backend.hpp"

namespace gru::cuda {

/// The part of CudaPersistent whose groups of blocks exchange the state.
class Persistent {
 public:
  static Decision<PersistentSchedule> decide(const Problem& problem);
  Persistent(StreamRef stream, const Problem& problem, Decision<PersistentSchedule> decision, const Weights& weights);
  Persistent(Persistent&&) noexcept;
  Persistent& operator=(Persistent&&) noexcept;
  ~Persistent();

  void execute(const Call& call);
  Persistent fork(StreamRef stream) const;
  void rebind(StreamRef stream);  ///< another stream of the same device
  std::size_t workspace_bytes() const;
  Status status() const;

 private:
  struct Impl;
  explicit Persistent(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace gru::cuda
