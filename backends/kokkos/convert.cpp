// SPDX-License-Identifier: Apache-2.0
#include "backends/storage/convert.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>

#include "backends/kokkos/host_launch.hpp"
#include "backends/kokkos/simd/select.hpp"
#include "backends/storage/convert_elements.hpp"
#if GRU_ENABLE_CUDA && defined(KOKKOS_ENABLE_CUDA)
#include "backends/cuda/common/runtime.hpp"
#endif

namespace gru::storage {
namespace {

/// Columns begin .. begin + count of one row: side by side by the kernels of this machine.
template <class Half, Way way>
void convert_run(const simd::Kernels<float>& kernels, const Conversion& c, std::int64_t plane, std::int64_t row,
                 std::int64_t begin, std::int64_t count) {
  if (c.from_strides[2] != 1 || c.to_strides[2] != 1) return convert_columns<Half, way>(c, plane, row, begin, count);
  constexpr auto stored = std::is_same_v<Half, Float16> ? simd::Stored::float16 : simd::Stored::bfloat16;
  const auto* const from = static_cast<const typename Element<Half, way>::From*>(c.from) + plane * c.from_strides[0] +
                           row * c.from_strides[1] + begin;
  auto* const to =
      static_cast<typename Element<Half, way>::To*>(c.to) + plane * c.to_strides[0] + row * c.to_strides[1] + begin;
  if constexpr (way == Way::widen) {
    kernels.widen(stored, {&from->bits, 0, 0, 1, count}, to);
  } else {
    (way == Way::add ? kernels.add_rounded : kernels.round)(stored, from, {&to->bits, 0, 0, 1, count});
  }
}

/// A host's threads take one part each of all elements in a row.
template <class Half, Way way>
struct ConvertParts {
  Conversions conversions;

  void operator()(int rank, int size) const {
    static const simd::Kernels<float>& kernels = simd::select_kernels<float>();
    for (int i = 0; i < conversions.count; ++i) convert(kernels, conversions.list[i], rank, size);
  }

 private:
  static void convert(const simd::Kernels<float>& kernels, const Conversion& c, int rank, int size) {
    const std::int64_t elements = c.planes * c.rows * c.columns;
    const std::int64_t part = (elements + size - 1) / size;
    const std::int64_t end = std::min(elements, part * (rank + 1));
    for (std::int64_t at = part * rank; at < end;) {
      const std::int64_t row = at / c.columns;
      const std::int64_t column = at % c.columns;
      const std::int64_t count = std::min(c.columns - column, end - at);
      convert_run<Half, way>(kernels, c, row / c.rows, row % c.rows, column, count);
      at += count;
    }
  }
};

// Fewer elements take less time than waking a thread: about 5 us for eight thousand.
constexpr std::int64_t kElementsPerThread = 8192;

template <class Space>
int threads_for(const Space& space, const Conversions& conversions) {
  std::int64_t elements = 0;
  for (int i = 0; i < conversions.count; ++i) {
    const Conversion& c = conversions.list[i];
    elements += c.planes * c.rows * c.columns;
  }
  if (elements <= kElementsPerThread) return 1;
  // All of the pool: libgomp ends the threads that a smaller region leaves out.
  return kokkos::kIsOpenMP<Space> ? kokkos::pool_threads(space) : 1;
}

}  // namespace

template <KokkosSpace S>
void convert(const S& space, const std::string& label, const Conversions& conversions, DType half, Way way) {
  if (conversions.count == 0) return;
  if constexpr (HostSpace<S>) {
    const kokkos::ToldKernel<S> told(label, space);
    const int threads = threads_for(space, conversions);
    const auto turn = kokkos::turn_of(space);
    with_elements<ConvertParts>(half, way, conversions, [&](const auto& functor) { on_threads(threads, functor); });
  } else {
    with_elements<ConvertChunks>(half, way, conversions, [&](const auto& functor) {
      using Chunks = Kokkos::RangePolicy<S, Kokkos::IndexType<std::int64_t>>;
      // Kokkos copies the label, on the heap from 16 letters on, though only tools read it.
      static const std::string unlabelled;
      Kokkos::parallel_for(Kokkos::Tools::profileLibraryLoaded() ? label : unlabelled,
                           Chunks(space, 0, chunks_of(conversions)), functor);
    });
  }
}

namespace {

template <class S, class Tensors>
void require_reachable_memory([[maybe_unused]] const S& space, [[maybe_unused]] const Tensors& tensors) {
#if GRU_ENABLE_CUDA && defined(KOKKOS_ENABLE_CUDA)
  if constexpr (std::is_same_v<S, Kokkos::Cuda>) cuda::require_device_memory(tensors, cuda::stream_of(space));
#endif
}

}  // namespace

template <KokkosSpace S>
void require_reachable(const S& space, const Call& call) {
  require_reachable_memory(space, call);
}
template <KokkosSpace S>
void require_reachable(const S& space, const BackwardCall& call) {
  require_reachable_memory(space, call);
}
template <KokkosSpace S>
void require_reachable(const S& space, std::span<const CellWeights> cells) {
  require_reachable_memory(space, cells);
}

using Host = Kokkos::DefaultHostExecutionSpace;
template void convert<Host>(const Host&, const std::string&, const Conversions&, DType, Way);
template void require_reachable<Host>(const Host&, const Call&);
template void require_reachable<Host>(const Host&, const BackwardCall&);
template void require_reachable<Host>(const Host&, std::span<const CellWeights>);
#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP) || defined(KOKKOS_ENABLE_SYCL)
using DefaultSpace = Kokkos::DefaultExecutionSpace;
template void convert<DefaultSpace>(const DefaultSpace&, const std::string&, const Conversions&, DType, Way);
template void require_reachable<DefaultSpace>(const DefaultSpace&, const Call&);
template void require_reachable<DefaultSpace>(const DefaultSpace&, const BackwardCall&);
template void require_reachable<DefaultSpace>(const DefaultSpace&, std::span<const CellWeights>);
#endif

}  // namespace gru::storage
