#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gru/cuda_stream.hpp"
#include "gru/space.hpp"

namespace gru::bench {

/// Seconds of some calls. Every field is 0 if there was none.
struct Summary {
  double median = 0;
  double min = 0;
  double max = 0;
  double p99 = 0;
  std::size_t calls = 0;
};

/// The value below which the share q (0..1) of the sorted samples lies, interpolated between neighbours.
double quantile(const std::vector<double>& sorted, double q);
Summary summarize(std::vector<double> seconds);

/// Several repeats as one: the median of medians and of p99, the least, the largest.
Summary combine(const std::vector<Summary>& repeats);

/// Seconds that the host waits for work, everything before it on the space being done.
template <class Space, class Work>
double fenced_seconds(const Space& space, Work&& work) {
  using Clock = std::chrono::steady_clock;
  SpaceTraits<Space>::fence(space);
  const auto start = Clock::now();
  std::forward<Work>(work)();
  // Work on a host space is done when the call returns.
  if constexpr (!SpaceTraits<Space>::is_host) SpaceTraits<Space>::fence(space);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Times work on a space. A space whose device has a clock of its own specialises it, so that the device is timed and
/// not the launch.
template <class Space>
class SpaceTimer {
 public:
  /// Dependent steps timed as one sample. A device's clock is too coarse for a single step, and its launch hides behind
  /// the step before it when many are queued; on a host each step has its own latency.
  static constexpr int kStepsPerSample = SpaceTraits<Space>::is_host ? 1 : 1000;

  explicit SpaceTimer(Space space) : space_(std::move(space)) {}

  /// Seconds from the begin to the end of what work launches.
  template <class Work>
  double seconds(Work&& work) {
    return fenced_seconds(space_, std::forward<Work>(work));
  }

 private:
  Space space_;
};

/// On a CUDA stream: the device's time between two events, without what the host does meanwhile. Defined where the CUDA
/// backends are built.
template <>
class SpaceTimer<CudaStream> {
 public:
  static constexpr int kStepsPerSample = 1000;

  explicit SpaceTimer(const CudaStream& stream);
  double seconds(const std::function<void()>& work);

 private:
  CudaStream stream_;
  std::shared_ptr<void> begin_, end_;  ///< cudaEvent_t
};

/// How long to go on.
struct Effort {
  int repeats = 5;         ///< independent repeats, whose median counts
  double min_time = 0.25;  ///< seconds of calls in each repeat; 0: one call
  int calls_a_sample =
      1;  ///< each call does the work so often and returns the mean: what it took counts towards min_time
};

/// Repeats calls of `once`, which returns the seconds it wants counted, under Google Benchmark's harness.
/// Rethrows what `once` throws.
Summary repeat(const std::string& name, const Effort& effort, const std::function<double()>& once);

}  // namespace gru::bench
