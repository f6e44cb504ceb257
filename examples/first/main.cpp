// The smallest useful program: weights that PyTorch trained, a batch of sequences, the last states.
//
//   first WEIGHTS.safetensors X.npy H_N.npy      X: (B, T, I); H_N: (L*D, B, H)

#include <cstdio>
#include <exception>
#include <gru/gru.hpp>

int main(int argc, char** argv) try {
  if (argc != 4) throw gru::Error("usage: first WEIGHTS.safetensors X.npy H_N.npy");
  const Kokkos::ScopeGuard kokkos;                // Kokkos belongs to the program, never to the library
  const Kokkos::DefaultHostExecutionSpace space;  // where to run; gru::CudaStream on an NVIDIA GPU

  const gru::Weights weights = gru::load_weights(argv[1]);  // a state_dict; sizes and layers are inferred
  const gru::Tensor x = gru::load_npy(argv[2]);
  const gru::Config& c = weights.config();
  gru::Tensor h_n(x.dtype(), {c.num_layers * c.num_directions(), x.extents().at(0), c.hidden_size});

  // Once: choose a backend, pack the weights, allocate. Then as often as you like: only compute.
  gru::Plan<Kokkos::DefaultHostExecutionSpace> plan(space, weights, gru::options_for(x.view(), {.batch_first = true}));
  plan.execute({.x = x.view(), .h_n = h_n.view()});

  gru::save_npy(argv[3], h_n);
  std::printf("%s: %s\n", gru::describe(c).c_str(), plan.why().c_str());
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
