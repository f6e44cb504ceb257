// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "backends/cuda/device/memory_order.cuh"

namespace gru::cuda {

/// Bounds every wait for other blocks. After a.spin_limit polls the waiter stops waiting for good and says so in
/// *a.aborted, which the others look at now and then; the loops run on with whatever data is there.
template <class Args>
struct SpinGuard {
  const Args& a;         // spin_limit, aborted
  bool gave_up = false;  // the same in all lanes

  /// The 32 lanes of a warp wait together. `ready` polls for this lane and says whether its data is there.
  template <class Ready>
  __device__ __forceinline__ void wait(Ready&& ready) {
    if (__all_sync(~0U, ready()) || gave_up) return;
    long long spins = 1;
    do {
      if (spins >= a.spin_limit) store_relaxed(a.aborted, 1U);
      if (spins >= a.spin_limit || (spins % 4096 == 0 && __any_sync(~0U, load_relaxed(a.aborted) != 0))) {
        gave_up = true;
        return;
      }
      ++spins;
    } while (!__all_sync(~0U, ready()));
  }

  /// The same by one thread.
  template <class Ready>
  __device__ __forceinline__ void wait_alone(Ready&& ready) {
    for (long long spins = 1; !gave_up && !ready(); ++spins) {
      if (spins >= a.spin_limit) store_relaxed(a.aborted, 1U);
      gave_up = spins >= a.spin_limit || (spins % 4096 == 0 && load_relaxed(a.aborted) != 0);
    }
  }
};

}  // namespace gru::cuda
