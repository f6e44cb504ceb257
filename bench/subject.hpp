#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "bench/bench.hpp"
#include "bench/clock.hpp"
#include "gru/buffer.hpp"
#include "gru/error.hpp"
#include "gru/plan.hpp"

namespace gru::bench {

/// A workload on one backend, its space hidden. Both calls return the seconds they took on the space.
class Subject {
 public:
  Subject() = default;
  Subject(const Subject&) = delete;
  Subject& operator=(const Subject&) = delete;
  virtual ~Subject() = default;
  virtual double prepare() = 0;  ///< makes the plan anew; must come first
  virtual double execute() = 0;  ///< one execution, or one step (the mean of calls_a_sample())
  virtual int calls_a_sample() const = 0;
  virtual Problem problem() const = 0;
  virtual void require_ok() const = 0;  ///< throws gru::Error with the plan's status
};

template <class Space>
class SpaceSubject final : public Subject {
 public:
  SpaceSubject(const Workload& workload, const PlanOptions& options)
      : space_(SpaceTraits<Space>::make_instance()),
        timer_(space_),
        weights_(workload.weights),
        is_step_(workload.is_step()),
        x_(space_, workload.x) {
    const Config& config = weights_.config();
    const std::int64_t width = config.num_directions() * config.hidden_size;
    const std::int64_t rows = config.num_layers * config.num_directions();
    const auto& extents = workload.x.extents();
    options_ = options;
    options_.batch_first = workload.batch_first;
    options_ = options_for(std::as_const(x_).view(), options_);
    if (extents.size() == 3) {
      h_in_ = {space_, options_.dtype, {rows, extents[workload.batch_first ? 0 : 1], config.hidden_size}};
      output_ = {space_, options_.dtype, {extents[0], extents[1], width}};
    } else {
      h_in_ = {space_, options_.dtype, {rows, config.hidden_size}};
      output_ = {space_, options_.dtype, {extents[0], width}};
    }
    h_out_ = Buffer<Space>(space_, h_in_.to_host());
  }

  double prepare() override {
    plan_.reset();
    return fenced_seconds(space_, [&] { plan_.emplace(space_, weights_, options_); });
  }

  double execute() override {
    if (!is_step_) {
      const Call call{.x = x_.view(), .h0 = h_in_.view(), .output = output_.view(), .h_n = h_out_.view()};
      return timer_.seconds([&] { plan_->execute(call); });
    }
    constexpr int kSteps = SpaceTimer<Space>::kStepsPerSample;
    const ConstTensorView x = first_step();
    const double seconds = timer_.seconds([&] {
      for (int i = 0; i < kSteps; ++i) {
        plan_->step(x, std::as_const(h_in_).view(), h_out_.view());
        std::swap(h_in_, h_out_);
      }
    });
    return seconds / kSteps;
  }

  int calls_a_sample() const override { return is_step_ ? SpaceTimer<Space>::kStepsPerSample : 1; }

  Problem problem() const override { return plan_->problem(); }

  void require_ok() const override {
    const Status status = plan_->status();
    if (!status.ok) throw Error("gru bench: the plan failed while it was timed: " + status.message);
  }

 private:
  /// x without its time dimension: (B, I) or (I).
  ConstTensorView first_step() const {
    ConstTensorView x = x_.view();
    const std::size_t time = x.rank == 3 && options_.batch_first ? 1 : 0;
    for (std::size_t d = time; d + 1 < 3; ++d) {
      x.extents[d] = x.extents[d + 1];
      x.strides[d] = x.strides[d + 1];
    }
    --x.rank;
    x.extents[static_cast<std::size_t>(x.rank)] = x.strides[static_cast<std::size_t>(x.rank)] = 0;
    return x;
  }

  Space space_;
  SpaceTimer<Space> timer_;
  Weights weights_;
  PlanOptions options_;
  bool is_step_;
  Buffer<Space> x_;       // (T, B, I), (B, T, I) or (T, I)
  Buffer<Space> h_in_;    // (L*D, B, H) or (L*D, H); zeros at first
  Buffer<Space> h_out_;   // the same
  Buffer<Space> output_;  // as x, D*H wide
  std::optional<Plan<Space>> plan_;
};

template <class Space>
std::unique_ptr<Subject> make_subject(const Workload& workload, const PlanOptions& options) {
  return std::make_unique<SpaceSubject<Space>>(workload, options);
}

}  // namespace gru::bench
