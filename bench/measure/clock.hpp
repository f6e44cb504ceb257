// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gru/cuda_stream.hpp"
#include "gru/detail/any_space.hpp"

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
template <class Work>
double fenced_seconds(const AnySpace& space, Work&& work) {
  using Clock = std::chrono::steady_clock;
  space.fence();
  const auto start = Clock::now();
  std::forward<Work>(work)();
  // Work on a host space is done when the call returns.
  if (!space.is_host()) space.fence();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Times work on a space instance.
class Timer {
 public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  virtual ~Timer() = default;
  /// Seconds from the begin to the end of what work launches.
  virtual double seconds(const std::function<void()>& work) = 0;
};

/// The timer of a space: where the device has a clock of its own, the device is timed and not the launch.
std::unique_ptr<Timer> make_timer(std::shared_ptr<const AnySpace> space);

/// On a CUDA stream: the device's time between two events, without what the host does meanwhile. Defined where the CUDA
/// backends are built.
class EventTimer final : public Timer {
 public:
  explicit EventTimer(const CudaStream& stream);
  double seconds(const std::function<void()>& work) override;

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
