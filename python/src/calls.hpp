// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>

namespace gru::python {

/// Adds forward and backward on cached plans, for frameworks that bring the weights with each call (gru.torch).
void describe_calls(nanobind::module_& module);

/// Adds Model: inference on cached plans for calls that nobody differentiates or traces.
void describe_model(nanobind::module_& module);

/// Adds xla_calls(): the handlers that XLA calls by their C addresses (gru.jax).
void describe_xla_calls(nanobind::module_& module);

}  // namespace gru::python
