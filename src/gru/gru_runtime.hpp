// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The library for programs that name devices at run time: neither Kokkos' headers nor CUDA's are needed. gru/gru.hpp has
/// the same for programs that are written for an execution space.

#include "gru/call.hpp"
#include "gru/config.hpp"
#include "gru/detail/any_plan.hpp"
#include "gru/device.hpp"
#include "gru/device_plan.hpp"
#include "gru/error.hpp"
#include "gru/io.hpp"
#include "gru/problem.hpp"
#include "gru/runtime.hpp"
#include "gru/tensor.hpp"
#include "gru/tuning.hpp"
#include "gru/version.hpp"
#include "gru/weights.hpp"
