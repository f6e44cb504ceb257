// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "gru/detail/space.hpp"
#include "gru/error.hpp"
#include "gru/tensor.hpp"

namespace gru {

/// A Kokkos execution space.
template <class S>
concept KokkosSpace = Kokkos::is_execution_space_v<S>;

/// A Kokkos execution space whose memory host code can read: Serial, OpenMP, Threads.
template <class S>
concept HostSpace = KokkosSpace<S> &&
    static_cast<bool>(Kokkos::SpaceAccessibility<Kokkos::HostSpace, typename S::memory_space>::accessible);

/// The threads of this very instance. In Kokkos 4 with its deprecated code (the default) OpenMP's member is a static function
/// that answers for the default instance unless it is given another.
template <KokkosSpace S>
int concurrency_of(const S& space) {
  if constexpr (requires { S::concurrency(space); }) {
    return S::concurrency(space);
  } else {
    return space.concurrency();
  }
}

/// The processor's name for reports; empty if the system does not tell.
std::string host_processor_name();

/// The memory of this machine; 0 if the system does not tell.
std::size_t host_memory_bytes();

/// The processors that some threads may run on. Each thread is asked for itself: OpenMP may have bound it, and the main
/// thread of a bound pool may use one processor only.
class ProcessorSet {
 public:
  void add_mine();    ///< those of the calling thread; several threads may call at once
  int count() const;  ///< at least 1
 private:
  std::array<std::atomic<std::uint64_t>, 16> bits_{};
};

/// How many of `threads` OpenMP threads can work at the same time: those that OpenMP starts, on the processors that they may use.
int openmp_concurrency(int threads);

/// Whether the caller runs inside of an OpenMP parallel region. It may be a kernel of a space that would then be waited for by
/// itself; work on a host space is done when its launch returns, so that there is nothing to wait for.
bool inside_parallel_region();

/// Host memory, at a multiple of 64 bytes, that Kokkos' tools see under a label. Kokkos' own is freed behind a fence of all
/// instances: inside of a kernel that never ends.
std::shared_ptr<void> allocate_host(const std::string& label, std::size_t bytes);

/// "OpenMP" -> "openmp".
inline std::string lower_case(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

template <KokkosSpace S>
struct SpaceTraits<S> {
  static constexpr bool is_host = HostSpace<S>;
  inline static const std::string name = is_host ? "kokkos" : "kokkos-" + lower_case(S::name());

  inline static const std::string device_kind = is_host ? "cpu" : lower_case(S::name());

  static bool available() { return Kokkos::is_initialized() && !Kokkos::is_finalized(); }
  /// Kokkos uses one device of a kind, which its initialisation settles.
  static std::vector<int> devices() {
    if (is_host) return {0};
    return available() ? std::vector<int>{Kokkos::device_id()} : std::vector<int>{};
  }
  static int device_index(const S&) { return is_host ? 0 : Kokkos::device_id(); }
  /// Unlike S{}, which aborts inside Kokkos before its initialisation, this throws gru::Error.
  static S make_instance(int device = -1) {
    require_initialised();
    if (!is_host && device >= 0 && device != Kokkos::device_id()) {
      throw Error("gru: Kokkos runs on device " + std::to_string(Kokkos::device_id()) + " of its kind, not on " +
                  std::to_string(device) + "; initialise it with --kokkos-device-id");
    }
    return S{};
  }

  static void require_ready(const S&) { require_initialised(); }

  static void require_initialised() {
    if (!available()) {
      throw Error(
          "gru::Plan: Kokkos is not initialised (or already finalised), and the library never does that itself: "
          "keep a Kokkos::ScopeGuard, or a gru::Runtime, in main() that outlives every space instance, buffer and "
          "plan");
    }
  }

  static DeviceInfo device_info_of(int device) {
    if (available()) return device_info(make_instance(device));
    DeviceInfo info;
    if (is_host) describe_host(info);
    ProcessorSet mine;
    mine.add_mine();
    info.concurrency = mine.count();
    return info;
  }

  static DeviceInfo device_info(const S& space) {
    DeviceInfo info;
    info.concurrency = concurrency_of(space);
    if constexpr (is_host) {
      // Threads that wait for each other gain nothing from sharing a processor.
      if constexpr (is_openmp) {
        info.concurrency = openmp_concurrency(info.concurrency);
      } else {
        ProcessorSet processors;
        Kokkos::parallel_for(
            "gru::host::processors",
            Kokkos::RangePolicy<S, Kokkos::Schedule<Kokkos::Static>>(space, 0, info.concurrency, Kokkos::ChunkSize{1}),
            [&](int) { processors.add_mine(); });
        fence(space, "gru::host::processors");
        info.concurrency = std::min(info.concurrency, processors.count());
      }
      describe_host(info);
    } else {
      info.name = S::name();
#if defined(KOKKOS_ENABLE_CUDA)
      if constexpr (std::is_same_v<S, Kokkos::Cuda>) {
        const auto& p = space.cuda_device_prop();
        info.name = p.name;
        info.compute_capability = 10 * p.major + p.minor;
        info.sm_count = p.multiProcessorCount;
        info.shared_memory_per_block = p.sharedMemPerBlockOptin;
        info.shared_memory_per_sm = p.sharedMemPerMultiprocessor;
        info.registers_per_sm = p.regsPerMultiprocessor;
        info.l2_bytes = static_cast<std::size_t>(p.l2CacheSize);
        info.max_cluster_size = p.major >= 9 && p.major < 12 ? 16 : 1;
        info.memory_bytes = p.totalGlobalMem;
      }
#endif
    }
    return info;
  }

  static void fence(const S& space, const std::string& label = "gru::fence") {
    if constexpr (is_openmp) {
      if (inside_parallel_region()) return;
    }
    space.fence(label);
  }

  static std::shared_ptr<void> allocate(const S& space, const std::string& label, std::size_t bytes) {
    if constexpr (is_host) return allocate_host(label, bytes);
    using Bytes = Kokkos::View<std::byte*, typename S::memory_space>;
    auto view = std::make_shared<Bytes>(Kokkos::view_alloc(space, Kokkos::WithoutInitializing, label), bytes);
    void* data = view->data();
    return {std::move(view), data};
  }

  static void copy_in(const S& space, void* to, const void* host, std::size_t bytes) {
    if constexpr (is_host) return copy_on_host(space, to, host, bytes);
    const auto target = device_bytes(to, bytes);
    Kokkos::deep_copy(space, target, host_bytes(const_cast<void*>(host), bytes));  // the host side is only read
    space.fence("gru::copy_in");
  }
  static void copy_out(const S& space, void* host, const void* from, std::size_t bytes) {
    if constexpr (is_host) return copy_on_host(space, host, from, bytes);
    Kokkos::deep_copy(space, host_bytes(host, bytes), device_bytes(const_cast<void*>(from), bytes));
    space.fence("gru::copy_out");
  }
  static void set_zero(const S& space, void* to, std::size_t bytes) {
    if constexpr (is_host) {
      fence(space);
      std::memset(to, 0, bytes);
      return;
    }
    Kokkos::deep_copy(space, device_bytes(to, bytes), std::byte{0});
  }

 private:
  static void describe_host(DeviceInfo& info) {
    info.name = host_processor_name();
    info.memory_bytes = host_memory_bytes();
  }

#if defined(KOKKOS_ENABLE_OPENMP)
  static constexpr bool is_openmp = std::is_same_v<S, Kokkos::OpenMP>;
#else
  static constexpr bool is_openmp = false;
#endif

  // Kokkos would share a large copy out among threads: it ends the program where OpenMP may start none.
  static void copy_on_host(const S& space, void* to, const void* from, std::size_t bytes) {
    fence(space);
    std::memcpy(to, from, bytes);
  }

  using Unmanaged = Kokkos::MemoryTraits<Kokkos::Unmanaged>;
  static auto device_bytes(void* data, std::size_t bytes) {
    return Kokkos::View<std::byte*, typename S::memory_space, Unmanaged>(static_cast<std::byte*>(data), bytes);
  }
  static auto host_bytes(void* data, std::size_t bytes) {
    return Kokkos::View<std::byte*, Kokkos::HostSpace, Unmanaged>(static_cast<std::byte*>(data), bytes);
  }
};

/// A Kokkos::View of rank 1 to 3 as a tensor for plans on Space: `gru::tensor_of<Space>(view)`.
template <KokkosSpace Space, class Data, class... Properties>
auto tensor_of(const Kokkos::View<Data, Properties...>& view) {
  using View = Kokkos::View<Data, Properties...>;
  static_assert(
      Kokkos::SpaceAccessibility<Space, typename View::memory_space>::accessible,
      "gru: the plan's execution space cannot access this View's memory space; copy it with Kokkos::deep_copy");
  static_assert(View::rank >= 1 && View::rank <= 3, "gru: a tensor has rank 1, 2 or 3");
  using Value = typename View::value_type;
  using Result = BasicTensorView<std::conditional_t<std::is_const_v<Value>, const void, void>>;
  Result tensor{view.data(), dtype_of<Value>(), static_cast<int>(View::rank), {}, {}};
  for (std::size_t d = 0; d < View::rank; ++d) {
    tensor.extents[d] = static_cast<std::int64_t>(view.extent(d));
    tensor.strides[d] = static_cast<std::int64_t>(view.stride(d));
  }
  return tensor;
}

}  // namespace gru
