#pragma once

#include <type_traits>

#include "gru/cuda_stream.hpp"
#include "gru/kokkos_space.hpp"

namespace gru::test {

/// An instance beside the default one: another stream, or a host pool of one thread.
template <class Space>
Space second_instance() {
  if constexpr (std::is_same_v<Space, CudaStream>) {
    return CudaStream::create();
  } else if constexpr (HostSpace<Space> && std::is_constructible_v<Space, int>) {
    return Space(1);  // Kokkos::OpenMP's partition_space hands out all threads to each part
  } else {
    return Kokkos::Experimental::partition_space(Space{}, 1, 1)[0];
  }
}

}  // namespace gru::test
