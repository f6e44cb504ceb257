// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The whole public interface. `Config`, `Weights` say what a GRU is, `Plan<Space>` runs it, `gru/io.hpp` reads files.

#include "gru/backend.hpp"
#include "gru/buffer.hpp"
#include "gru/call.hpp"
#include "gru/cell.hpp"
#include "gru/config.hpp"
#include "gru/cuda_stream.hpp"
#include "gru/detail/any_plan.hpp"
#include "gru/detail/any_space.hpp"
#include "gru/detail/kokkos_space.hpp"
#include "gru/detail/philox.hpp"
#include "gru/detail/space.hpp"
#include "gru/device.hpp"
#include "gru/device_plan.hpp"
#include "gru/error.hpp"
#include "gru/half.hpp"
#include "gru/io.hpp"
#include "gru/plan.hpp"
#include "gru/problem.hpp"
#include "gru/runtime.hpp"
#include "gru/tensor.hpp"
#include "gru/training.hpp"
#include "gru/tuning.hpp"
#include "gru/version.hpp"
#include "gru/weights.hpp"
