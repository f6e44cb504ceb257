#pragma once

#include <cstddef>
#include <memory>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/single_block/schedule.hpp"
#include "gru/backend.hpp"

namespace gru::cuda {

/// The part of CudaPersistent for few hidden units: no group of blocks, no exchange.
class SmallPersistent {
 public:
  static Decision<SmallSchedule> decide(const Problem& problem);
  SmallPersistent(StreamRef stream, const Problem& problem, Decision<SmallSchedule> decision, const Weights& weights);
  SmallPersistent(SmallPersistent&&) noexcept;
  SmallPersistent& operator=(SmallPersistent&&) noexcept;
  ~SmallPersistent();

  void execute(const Call& call);
  SmallPersistent fork(StreamRef stream) const;
  void rebind(StreamRef stream);  ///< another stream of the same device
  std::size_t workspace_bytes() const;
  Status status() const;

 private:
  struct Impl;
  explicit SmallPersistent(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace gru::cuda
