// SPDX-License-Identifier: Apache-2.0
#pragma once

/// How the blocks of a persistent schedule come onto a device.

#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/persistent/args.hpp"
#include "backends/cuda/persistent/schedule/schedule.hpp"

namespace gru::cuda {

/// The code of a schedule's kernel.
const void* function_of(const PersistentSchedule& schedule);

/// `blocks` of it, in clusters where it wants them.
struct RecurrenceLaunch : Launch {
  RecurrenceLaunch(const PersistentSchedule& schedule, int blocks, StreamRef stream);
};

/// A launch's arguments of which the schedule decides; the others as they are at first.
PersistentArgs arguments_of(const PersistentSchedule& schedule);

/// Asks the stream's device whether all blocks of the schedule fit at once, beside the reserved multiprocessors, and
/// prepares the kernel for that. Lowers the schedule's `most_blocks` to what the device says.
bool fits_device(PersistentSchedule& schedule, const Problem& problem, StreamRef stream);

}  // namespace gru::cuda
