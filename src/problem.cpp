// SPDX-License-Identifier: Apache-2.0
#include "gru/problem.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>

#include "checked.hpp"
#include "format.hpp"
#include "gru/error.hpp"

namespace gru {
namespace {

struct MathName {
  std::string_view name;
  Math math;
};
// The first name of a mode is the one printed.
constexpr std::array kMathNames = {MathName{"strict", Math::strict}, MathName{"fp32", Math::strict},
                                   MathName{"tf32x3", Math::tf32x3}, MathName{"tf32", Math::tf32},
                                   MathName{"fp16", Math::fp16},     MathName{"bf16", Math::bf16}};

struct TrainingName {
  std::string_view name;
  Training training;
};
constexpr std::array kTrainingNames = {TrainingName{"none", Training::none}, TrainingName{"keep", Training::keep_gates},
                                       TrainingName{"remake", Training::remake_gates}};

struct TuningName {
  std::string_view name;
  Tuning tuning;
};
constexpr std::array kTuningNames = {TuningName{"never", Tuning::never}, TuningName{"cache", Tuning::cache},
                                     TuningName{"now", Tuning::now}};

/// NVIDIA's tuning guides and the CUDA C++ programming guide; multiprocessors and L2 cache as the products have them.
struct Profile {
  std::string_view name;
  int compute_capability;
  int sm_count;
  int threads_per_sm;
  unsigned block_kilobytes;  // of shared memory, opt-in
  unsigned sm_kilobytes;     // likewise, of a multiprocessor
  unsigned l2_megabytes;
  int max_cluster_size;
};
constexpr std::array kProfiles = {
    Profile{"rtx4090", 89, 128, 1536, 99, 100, 72, 1},
    Profile{"a100", 80, 108, 2048, 163, 164, 40, 1},
    Profile{"h100", 90, 132, 2048, 227, 228, 50, 16},
    Profile{"h200", 90, 132, 2048, 227, 228, 50, 16},
};

void require_at_least(std::string_view what, std::int64_t value, std::int64_t least) {
  if (value < least) throw Error(fmt::format("gru: {} must be at least {}, got {}", what, least, value));
}

// Sizes whose products overflow would turn into small allocations and wild writes.
void require_bytes(std::string_view what, std::initializer_list<std::int64_t> factors) {
  const auto elements = checked_product(factors);
  if (!elements || !checked_product({*elements, 64})) {
    throw Error(fmt::format("gru: {} is too large: {} elements overflow the address space", what,
                            fmt::join(factors.begin(), factors.end(), " x ")));
  }
}

}  // namespace

std::string describe(const Config& c) {
  return fmt::format("I={} H={} L={} D={} {} reset-{}", c.input_size, c.hidden_size, c.num_layers, c.num_directions(),
                     c.bias ? "bias" : "no-bias", c.reset_after ? "after" : "before");
}

void Config::validate() const {
  require_at_least("input_size", input_size, 1);
  require_at_least("hidden_size", hidden_size, 1);
  require_at_least("num_layers", num_layers, 1);
  require_bytes("weight_ih", {3, hidden_size, input_size});
  require_bytes("the stack of layers", {num_layers, num_directions(), 3, hidden_size, 2, hidden_size});
}

std::string_view name_of(Math math) { return std::ranges::find(kMathNames, math, &MathName::math)->name; }

Math parse_math(std::string_view name) {
  const auto* found = std::ranges::find(kMathNames, name, &MathName::name);
  if (found != kMathNames.end()) return found->math;
  std::vector<std::string_view> names;
  for (const MathName& entry : kMathNames) names.push_back(entry.name);
  throw Error(fmt::format("gru: there is no math mode '{}'; choose one of {}", name, fmt::join(names, ", ")));
}

std::string_view name_of(Training training) {
  return std::ranges::find(kTrainingNames, training, &TrainingName::training)->name;
}

Training parse_training(std::string_view name) {
  const auto* found = std::ranges::find(kTrainingNames, name, &TrainingName::name);
  if (found != kTrainingNames.end()) return found->training;
  throw Error(fmt::format("gru: there is no training mode '{}'; choose one of none, keep, remake", name));
}

std::string_view name_of(Tuning tuning) { return std::ranges::find(kTuningNames, tuning, &TuningName::tuning)->name; }

Tuning parse_tuning(std::string_view name) {
  const auto* found = std::ranges::find(kTuningNames, name, &TuningName::name);
  if (found != kTuningNames.end()) return found->tuning;
  throw Error(fmt::format("gru: there is no tuning '{}'; choose one of never, cache, now", name));
}

DType parse_arithmetic_dtype(std::string_view name) {
  for (const DType dtype : {DType::float32, DType::float64, DType::float16, DType::bfloat16}) {
    if (name == name_of(dtype)) return dtype;
  }
  throw Error(
      fmt::format("gru: no plan computes with tensors of '{}'; choose float32, float64, float16 or bfloat16", name));
}

DeviceInfo profile_of(std::string_view profile) {
  const auto* found = std::ranges::find(kProfiles, profile, &Profile::name);
  if (found == kProfiles.end()) {
    throw Error(fmt::format("gru: there is no device profile '{}'; choose one of {}", profile,
                            fmt::join(device_profiles(), ", ")));
  }
  DeviceInfo device;
  device.name = found->name;
  device.compute_capability = found->compute_capability;
  device.sm_count = found->sm_count;
  device.concurrency = found->sm_count * found->threads_per_sm;
  device.shared_memory_per_block = std::size_t{found->block_kilobytes} << 10U;
  device.shared_memory_per_sm = std::size_t{found->sm_kilobytes} << 10U;
  device.registers_per_sm = 64 * 1024;
  device.l2_bytes = std::size_t{found->l2_megabytes} << 20U;
  device.max_cluster_size = found->max_cluster_size;
  return device;
}

std::vector<std::string> device_profiles() {
  std::vector<std::string> names;
  for (const Profile& profile : kProfiles) names.emplace_back(profile.name);
  return names;
}

DeviceInfo apply_profile(DeviceInfo device, std::string_view profile) {
  if (profile.empty()) return device;
  const DeviceInfo most = profile_of(profile);
  device.name += " limited to " + most.name;
  device.compute_capability = std::min(device.compute_capability, most.compute_capability);
  device.sm_count = std::min(device.sm_count, most.sm_count);
  device.shared_memory_per_block = std::min(device.shared_memory_per_block, most.shared_memory_per_block);
  device.shared_memory_per_sm = std::min(device.shared_memory_per_sm, most.shared_memory_per_sm);
  device.registers_per_sm = std::min(device.registers_per_sm, most.registers_per_sm);
  device.l2_bytes = std::min(device.l2_bytes, most.l2_bytes);
  device.max_cluster_size = std::min(device.max_cluster_size, most.max_cluster_size);
  return device;
}

void validate(const Problem& problem) {
  const Config& c = problem.config;
  const PlanOptions& o = problem.options;
  c.validate();
  require_at_least("batch_size", o.batch_size, 0);
  require_at_least("seq_len", o.seq_len, 1);
  require_at_least("reserve_sms", o.reserve_sms, 0);
  require_at_least("spin_limit", o.spin_limit, 0);
  if (o.dtype == DType::int32 || o.dtype == DType::int64) {
    throw Error(fmt::format("gru: a plan's dtype is float32, float64, float16 or bfloat16, got {}", name_of(o.dtype)));
  }
  if (o.dtype == DType::float64 && o.math != Math::strict) {
    throw Error(fmt::format("gru: math mode {} needs dtype float32, float16 or bfloat16, got float64; use math strict",
                            name_of(o.math)));
  }
  if (!o.arrangement.empty() && o.backend == "auto") {
    throw Error(fmt::format("gru: the arrangement '{}' is a backend's; name the backend too", o.arrangement));
  }
  if (!(o.dropout >= 0.0 && o.dropout <= 1.0)) {  // NaN too
    throw Error(fmt::format("gru: dropout is a probability from 0 to 1, got {}", o.dropout));
  }
  if (o.dropout > 0.0 && o.training == Training::none) {
    throw Error(fmt::format("gru: dropout = {} needs a plan for training; choose training keep or remake", o.dropout));
  }
  require_bytes("x", {o.seq_len, o.batch_size, c.input_size});
  require_bytes("the gate workspace", {o.seq_len, o.batch_size, c.num_directions(), 3, c.hidden_size});
  if (o.training != Training::none) {
    require_bytes("the reserve", {c.num_layers, o.seq_len, o.batch_size, c.num_directions(), 5, c.hidden_size});
  }
}

}  // namespace gru
