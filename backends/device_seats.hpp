// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "backends/choose.hpp"
#include "backends/spaces.hpp"
#include "gru/device.hpp"

namespace gru {

/// Who may serve a plan on the device, in the order in which they are asked. For "auto" every space of the build has a
/// seat, with the first device of its kind, or with the refusal that there is none.
std::vector<Seat> seats_of(const Device& device);

}  // namespace gru
