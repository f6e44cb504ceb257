// SPDX-License-Identifier: Apache-2.0
#include "backends/spaces.hpp"

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "backends/list.hpp"
#include "gru/error.hpp"

namespace gru {
namespace {

// A Kokkos space that no list names gets the patterns, so HIP and SYCL need no line of their own. This one stands for them:
// a space whose memory the host cannot read.
struct UnlistedMemory {
  using memory_space = UnlistedMemory;
  using execution_space = Kokkos::DefaultHostExecutionSpace;
  using device_type = Kokkos::Device<execution_space, memory_space>;
  using size_type = std::size_t;
};
struct UnlistedSpace {
  using execution_space = UnlistedSpace;
  using memory_space = UnlistedMemory;
  static constexpr const char* name() { return "Unlisted"; }
};
static_assert(std::is_same_v<backend_trait<UnlistedSpace>::candidates, list<KokkosPatterns<UnlistedSpace>>>);

}  // namespace

const std::vector<SpaceKind>& space_kinds() {
  static const std::vector<SpaceKind> kinds = [] {
    std::vector<SpaceKind> found;
    for_each(spaces{}, [&]<class Space>(type<Space>) {
      using Traits = SpaceTraits<Space>;
      found.push_back({Traits::name, Traits::device_kind, Traits::is_host, typeid(Space),
                       candidates_of(typename backend_trait<Space>::candidates{}), &Traits::devices,
                       &Traits::device_info_of, [](int device) -> std::shared_ptr<AnySpace> {
                         return std::make_shared<SpaceInstance<Space>>(Traits::make_instance(device));
                       }});
    });
    return found;
  }();
  return kinds;
}

const SpaceKind& space_kind(std::type_index type) {
  const auto found = std::ranges::find(space_kinds(), type, &SpaceKind::type);
  if (found == space_kinds().end()) {
    throw Error("gru::Plan: this build of the library serves no execution space such as " + std::string(type.name()));
  }
  return *found;
}

}  // namespace gru
