// SPDX-License-Identifier: Apache-2.0
// A stranger's program that knows devices by their names: no Kokkos, no CUDA, gru::runtime alone.
#include <cmath>
#include <cstdio>
#include <exception>
#include <gru/gru_runtime.hpp>

#if defined(KOKKOS_VERSION)
#error "gru/gru_runtime.hpp brings Kokkos"
#endif

int main() try {
  const gru::Runtime runtime;
  const gru::Weights weights = gru::Weights::random({.input_size = 3, .hidden_size = 5}, 1);
  const gru::Tensor x(gru::DType::float32, {4, 2, 3});
  gru::DevicePlan plan(gru::Device("cpu"), weights, gru::options_for(x.view(), {}));
  const gru::Results results = plan.run(x.view());
  for (std::int64_t i = 0; i < results.output.size(); ++i) {
    if (!(std::fabs(results.output.data<float>()[i]) < 1.0F)) return 1;
  }
  std::printf("gru::runtime works on %s\n", plan.device().name().c_str());
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
