// SPDX-License-Identifier: Apache-2.0
// A stranger's program: it knows the installed headers and gru::gru, nothing else of the library's.
#include <cmath>
#include <cstdio>
#include <gru/gru.hpp>
#include <vector>

int main() {
  const Kokkos::ScopeGuard kokkos;
  const Kokkos::DefaultHostExecutionSpace space;
  const gru::Config config{.input_size = 3, .hidden_size = 5};
  const gru::Weights weights = gru::Weights::random(config, 1);
  const std::vector<float> x(4 * 2 * 3, 1.0F);  // (T, B, I) = (4, 2, 3)
  std::vector<float> output(4 * 2 * 5, NAN);    // (T, B, H)
  gru::forward(space, weights,
               {.x = gru::tensor_view(x.data(), {4, 2, 3}), .output = gru::tensor_view(output.data(), {4, 2, 5})});
  for (const float value : output) {
    if (!(std::fabs(value) < 1.0F)) {
      std::printf("an output of %g is no state of a GRU\n", static_cast<double>(value));
      return 1;
    }
  }
  std::printf("gru %.*s works\n", static_cast<int>(gru::kVersion.size()), gru::kVersion.data());
  return 0;
}
