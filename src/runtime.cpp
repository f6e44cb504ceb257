// SPDX-License-Identifier: Apache-2.0
#include "gru/runtime.hpp"

#include <Kokkos_Core.hpp>
#include <string>

#include "environment.hpp"
#include "gru/error.hpp"
#include "host_threads.hpp"

namespace gru {

bool Runtime::ready() { return Kokkos::is_initialized() && !Kokkos::is_finalized(); }

Runtime::Runtime(int threads) {
  if (threads < 0 || threads > kMostKokkosThreads) {
    throw Error("gru::Runtime: expected a number of threads up to " + std::to_string(kMostKokkosThreads) +
                ", or 0 for as many as there are, got " + std::to_string(threads));
  }
  if (Kokkos::is_finalized()) {
    throw Error(
        "gru::Runtime: Kokkos was finalised in this process and cannot be initialised again; keep one Runtime in "
        "main() until the last plan is gone");
  }
  if (Kokkos::is_initialized()) return;
  if (parallel_level() > 0) {
    throw Error("gru::Runtime: Kokkos cannot be initialised inside of a parallel region; keep one Runtime in main()");
  }
  check_environment(threads);
  auto settings = Kokkos::InitializationSettings().set_disable_warnings(true);
  if (threads > 0) settings.set_num_threads(threads);
  Kokkos::initialize(settings);
  owns_ = true;
}

Runtime::~Runtime() {
  if (owns_ && ready()) Kokkos::finalize();
}

}  // namespace gru
