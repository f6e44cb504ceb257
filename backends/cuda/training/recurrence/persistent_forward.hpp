// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The forward of a training plan by the persistent kernels' twins that keep (backends/cuda/persistent): a layer a launch,
/// or a wavefront of several.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/device/words.hpp"
#include "backends/cuda/persistent/schedule/schedule.hpp"
#include "backends/cuda/training/args.hpp"
#include "backends/cuda/training/layout.hpp"
#include "backends/cuda/training/recurrence/recurrence.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// From numbers alone; null kernel: there is none, or the plan's own way, of that pace, is faster.
PersistentSchedule make_forward_schedule(const Problem& problem, const TrainingPace& own);

/// Steps of a launch: a wavefront's in parts, which hold down the memory of what its layers give each other.
std::int64_t forward_steps(const PersistentSchedule& schedule, std::int64_t steps, std::int64_t batch);

class PersistentForward {
 public:
  /// `steps`: of a launch, at most.
  PersistentForward(StreamRef stream, const Problem& problem, PersistentSchedule schedule, std::int64_t steps);

  /// Layers of a launch; the last one may have fewer.
  std::int64_t layers() const { return schedule_.layers; }
  /// One launch: the stage's chunk in `layers` layers from its first on. `w_ih`: of the second, and from one's to the next's.
  void run(const CellArgs& cells, int layers, const float* w_ih, std::int64_t layer_w_ih) const;

  void rebind(StreamRef stream) { stream_ = stream; }
  std::size_t workspace_bytes() const { return workspace_bytes_; }
  BoundedWaits& waits() { return waits_; }
  const BoundedWaits& waits() const { return waits_; }

 private:
  StreamRef stream_;
  PersistentSchedule schedule_;
  std::size_t workspace_bytes_ = 0;
  BoundedWaits waits_;  // freed after memory, whose freeing waits for kernels that look at it
  std::shared_ptr<std::byte> memory_;
  GateInput* gate_input_ = nullptr;     // wavefront: [layers a launch - 1][steps of a launch][B][Hp]
  EpochValue* layer_output_ = nullptr;  // likewise
  EpochValue* exchange_ = nullptr;
  std::uint32_t* counters_ = nullptr;  // epoch base, blocks done
};

}  // namespace gru::cuda
