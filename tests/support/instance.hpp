// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <type_traits>
#include <typeinfo>

#include "gru/cuda_stream.hpp"
#include "gru/detail/any_space.hpp"
#include "gru/detail/kokkos_space.hpp"
#include "gru/device.hpp"

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

/// The same for a space that is known at run time.
inline std::shared_ptr<AnySpace> second_instance(const AnySpace& space) {
  const auto made = []<class Space>(const Space& instance) { return std::make_shared<SpaceInstance<Space>>(instance); };
  if (space.type() == typeid(Kokkos::DefaultHostExecutionSpace)) {
    return made(second_instance<Kokkos::DefaultHostExecutionSpace>());
  }
  if (space.type() == typeid(Kokkos::DefaultExecutionSpace)) {
    return made(second_instance<Kokkos::DefaultExecutionSpace>());
  }
  return instance_on(Device(space.device_name()), space.name());
}

}  // namespace gru::test
