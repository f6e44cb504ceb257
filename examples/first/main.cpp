// SPDX-License-Identifier: Apache-2.0
// The smallest useful program: weights that PyTorch trained, a batch of sequences, the last states.
//
//   first WEIGHTS.safetensors X.npy H_N.npy      X: (B, T, I); H_N: (L*D, B, H)

#include <cstdio>
#include <exception>
#include <gru/gru_runtime.hpp>  // needs neither Kokkos' headers nor CUDA's; gru/gru.hpp is for programs that have them

int main(int argc, char** argv) try {
  if (argc != 4) throw gru::Error("usage: first WEIGHTS.safetensors X.npy H_N.npy");
  const gru::Runtime runtime;                               // lets plans use the processor
  const gru::Weights weights = gru::load_weights(argv[1]);  // a state_dict; sizes and layers are inferred
  const gru::Tensor x = gru::load_npy(argv[2]);

  // Once: choose a device and a backend, pack the weights, allocate. Then as often as you like: only compute.
  gru::DevicePlan plan(gru::Device("auto"), weights, gru::options_for(x.view(), {.batch_first = true}));
  const gru::Results results = plan.run(x.view());

  gru::save_npy(argv[3], results.h_n);
  std::printf("%s on %s: %s\n", gru::describe(weights.config()).c_str(), plan.device().name().c_str(),
              plan.why().c_str());
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
