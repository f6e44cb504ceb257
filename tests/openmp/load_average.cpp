// SPDX-License-Identifier: Apache-2.0
// To be preloaded. libgomp asks for the load average where OMP_DYNAMIC is set: here the machine is idle in the process's first
// second and busy afterwards, so that OpenMP promises threads that it does not give later.
#include <chrono>

namespace {
const auto start = std::chrono::steady_clock::now();
}

extern "C" int getloadavg(double* averages, int count) {
  const bool idle = std::chrono::steady_clock::now() - start < std::chrono::seconds(1);
  for (int i = 0; i < count; ++i) averages[i] = idle ? 0.0 : 1000.0;
  return count;
}
