// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Which of the CUDA engines is thought to be the fastest for a problem: estimates from numbers alone, each constant with the
/// resource behind it. The engines ask here before they accept a problem that named none of them.

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>
#include <variant>

#include "backends/cuda/common/build.hpp"
#include "backends/cuda/dense_step/schedule.hpp"
#include "backends/cuda/per_step/schedule.hpp"
#include "backends/cuda/persistent/schedule/slices.hpp"
#include "backends/cuda/single_block/schedule.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// Products in 16 bits, and three in TF32, are for engines whose products are worth it; the others compute such a problem in
/// TF32 or float32, which is exacter, and say so. Every other problem as it is.
Problem with_exacter_math(const Problem& problem);

/// The remark that goes with it; empty for a problem as it is.
std::string_view exacter_remark(const Problem& problem);

/// `own` is what the engine `name` itself says of the problem. A yes stays one if the caller named the engine, for training,
/// or unless one that is asked later is the fastest by the estimates: then it becomes a no with both times.
Support unless_slower(const Problem& problem, std::string_view name, Support own, const Build& build);

/// Of the engines, in the order in which a plan asks them (backends/list.hpp).
inline constexpr std::array<std::string_view, 7> kEngines = {
    "cuda-single-block",      "cuda-sequence", "cuda-persistent", "cuda-per-step",
    "cuda-persistent-slices", "cuda-tiles",    "cuda-dense-step"};

/// Seconds of an execution on an H200, roughly, as kEngines; infinite where an engine does not take the problem.
using Estimates = std::array<double, kEngines.size()>;
Estimates estimate(const Problem& problem, const Build& build);
/// That of one of them; infinite for other names.
double estimate_of(const Problem& problem, std::string_view name, const Build& build);

/// The place in kEngines of the one that backend auto takes by the estimates.
std::size_t fastest(const Estimates& estimates);

/// What an engine decided.
using AnySchedule = std::variant<SmallSchedule, Schedule, PersistentSchedule, SliceSchedule, DenseStepSchedule>;

/// The problem in the math mode that an engine, by its name, computes it in: its own, or an exacter one.
Problem problem_for(std::string_view engine, const Problem& problem);
/// What an engine decides about a problem, whatever others would take; nothing where it refuses.
std::optional<AnySchedule> schedule_of(std::size_t engine, const Problem& problem, const Build& build);
/// Seconds of a call, `call` being the plan's problem with the call's T and B, by what an engine planned for more.
double seconds_as_planned(std::size_t engine, const AnySchedule& planned, const Problem& call);

}  // namespace gru::cuda
