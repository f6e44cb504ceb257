// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace gru {

/// Makes plans on the processor possible in a program that does not know Kokkos: keep one in main(), made before any plan
/// and gone after the last. It initialises Kokkos, and finalises it at its end, unless the program has done so before; then
/// it does nothing. Plans on CUDA devices need none.
///
/// Kokkos can be initialised once in a process: after the first owning Runtime is gone, another one is refused.
class Runtime {
 public:
  /// `threads`: of the processor; 0: what OMP_NUM_THREADS and the like say, else all.
  /// Throws gru::Error if Kokkos was finalised before, for a number out of range, and for an environment variable that
  /// Kokkos would end the program for.
  explicit Runtime(int threads = 0);
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  ~Runtime();

  /// Whether this object initialised Kokkos.
  bool owns() const { return owns_; }

  /// Whether plans on the processor can be made now.
  static bool ready();

 private:
  bool owns_ = false;
};

}  // namespace gru
