// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The backend trait: all dispatch on one screen. The first candidate of a space that accepts wins.
///
/// A new backend is one folder and one entry here. A new math mode is one enumerator of gru::Math and a yes in
/// decide() of the backends that have it. A new file format is one file in src/io.

#include <Kokkos_Core.hpp>
#include <string>
#include <string_view>
#include <type_traits>

#include "backends/eigen/eigen_reference.hpp"
#include "backends/kokkos/kokkos_patterns.hpp"
#include "gru/backend.hpp"
#include "gru/cuda_stream.hpp"
#include "gru/detail/kokkos_space.hpp"
#include "gru/version.hpp"
#if GRU_ENABLE_CUDA
#include "backends/cuda/cell/cell.hpp"
#include "backends/cuda/dense_step/dense_step.hpp"
#include "backends/cuda/per_step/per_step.hpp"
#include "backends/cuda/persistent/persistent.hpp"
#include "backends/cuda/persistent/sliced.hpp"
#include "backends/cuda/sequence/sequence.hpp"
#include "backends/cuda/single_block/single_block.hpp"
#include "backends/cuda/tiles/tiles.hpp"
#include "backends/cuda/training/training.hpp"
#endif

namespace gru {

template <class Space>
struct backend_trait;
template <KokkosSpace S>
struct backend_trait<S> {
  using candidates = list<KokkosPatterns<S>>;
};
template <HostSpace S>
struct backend_trait<S> {
  using candidates = list<KokkosPatterns<S>, EigenReference<S>>;
};

#if GRU_ENABLE_CUDA
template <>
struct backend_trait<CudaStream> {
  using candidates = list<CudaCell<CudaStream>, CudaSingleBlock<CudaStream>, CudaSequence<CudaStream>,
                          CudaPersistent<CudaStream>, CudaPerStep<CudaStream>, CudaPersistentSlices<CudaStream>,
                          CudaTiles<CudaStream>, CudaDenseStep<CudaStream>, CudaTraining<CudaStream>>;
};
#if defined(KOKKOS_ENABLE_CUDA)
template <>
struct backend_trait<Kokkos::Cuda> {
  using candidates = list<CudaCell<Kokkos::Cuda>, CudaSingleBlock<Kokkos::Cuda>, CudaSequence<Kokkos::Cuda>,
                          CudaPersistent<Kokkos::Cuda>, CudaPerStep<Kokkos::Cuda>, CudaPersistentSlices<Kokkos::Cuda>,
                          CudaTiles<Kokkos::Cuda>, CudaDenseStep<Kokkos::Cuda>, CudaTraining<Kokkos::Cuda>,
                          KokkosPatterns<Kokkos::Cuda>>;
};
#endif
#endif

template <class... Ts, class... Us, class... Vs>
list<Ts..., Us..., Vs...> join(list<Ts...>, list<Us...>, list<Vs...>);

/// The spaces of this build, in the order in which `auto` asks them.
using spaces = decltype(join(
    std::conditional_t<kCudaEnabled, list<CudaStream>, list<>>{},
    std::conditional_t<HostSpace<Kokkos::DefaultExecutionSpace>, list<>, list<Kokkos::DefaultExecutionSpace>>{},
    list<Kokkos::DefaultHostExecutionSpace>{}));

/// Passes a type to a generic lambda: `[]<class Space>(type<Space>) {...}`.
template <class T>
struct type {
  using is = T;
};

/// Calls f(type<T>{}) for each T in the list's order.
template <class F, class... Ts>
void for_each(list<Ts...>, F&& f) {
  (f(type<Ts>{}), ...);
}

/// A backend's name as text; every candidate of the lists is a Backend.
template <Backend B>
std::string name_of() {
  return std::string(std::string_view(B::name));
}

}  // namespace gru
