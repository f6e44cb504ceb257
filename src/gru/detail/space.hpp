// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "gru/problem.hpp"

namespace gru {

/// What the library must know of an execution space. gru/detail/kokkos_space.hpp specialises it for every Kokkos space,
/// gru/cuda_stream.hpp for CudaStream:
///
///     static const std::string name;                    the CLI's name of the space
///     static constexpr bool is_host;                    host code may read the space's memory
///     static const std::string device_kind;             the Device that the space runs on: "cpu", "cuda" ...
///     static bool available();                          this process can run something there
///     static std::vector<int> devices();                the numbers of its devices on this machine
///     static Space make_instance(int device = 0);       a new instance; throws gru::Error if it cannot be had
///     static int device_index(const Space&);            the number of its device
///     static void require_ready(const Space&);          throws gru::Error, e.g. if Kokkos is not initialised
///     static DeviceInfo device_info(const Space&);
///     static DeviceInfo device_info_of(int device);     the same without an instance, as far as it is known then
///     static void fence(const Space&);                  waits for this instance alone
///     static std::shared_ptr<void> allocate(const Space&, const std::string& label, std::size_t bytes);
///     static void copy_in(const Space&, void* to, const void* host, std::size_t bytes);    done when it returns
///     static void copy_out(const Space&, void* host, const void* from, std::size_t bytes); done when it returns
///     static void set_zero(const Space&, void* to, std::size_t bytes);
template <class Space>
struct SpaceTraits;

}  // namespace gru
