// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gru/config.hpp"
#include "gru/tensor.hpp"
#include "gru/training.hpp"
#include "gru/tuning.hpp"

namespace gru {

/// How products are computed: the fewest bits that a product's factors keep. Sums, gates and states are float32 (float64 in
/// plans of that dtype). A backend may refuse a mode; it may keep more bits where that costs no time, and its remark in
/// why() says so; it never keeps fewer.
enum class Math : std::uint8_t {
  strict,  ///< factors as they are, in the sums' type (the default)
  tf32x3,  ///< each factor in two parts of TF32, three products: float32's accuracy on tensor cores
  tf32,    ///< factors rounded to TF32 (10 mantissa bits)
  fp16,    ///< factors rounded to float16
  bf16,    ///< factors rounded to bfloat16
};

std::string_view name_of(Math math);
/// "strict" (alias "fp32"), "tf32x3", "tf32", "fp16", "bf16"; throws gru::Error that lists them.
Math parse_math(std::string_view name);
/// "float32", "float64", "float16" or "bfloat16"; throws gru::Error otherwise.
DType parse_arithmetic_dtype(std::string_view name);

/// What the workload fixes.
struct PlanOptions {
  std::int64_t batch_size = 1;  ///< B: the largest batch that execute will see
  std::int64_t seq_len = 1;     ///< T: the longest sequence that execute will see
  bool batch_first = false;     ///< x and output are (B, T, ...); h0 and h_n stay (L*D, B, H)
  /// Inputs, states and outputs. Sums and states inside are float64 for float64, else float32; what has 16 bits is rounded
  /// when it is stored, to the nearest, ties to even.
  DType dtype = DType::float32;
  Math math = Math::strict;            ///< how products are computed
  Training training = Training::none;  ///< what a forward keeps for its backward
  bool takes_weights = false;          ///< Plan::set_weights will be called: backends that take none refuse
  double dropout = 0.0;          ///< probability in [0, 1] between layers, in calls with a reserve; needs training
  std::string backend = "auto";  ///< a name from the backend trait's list, or "auto": the first that says yes
  /// Plan as if the GPU were another one: "" (the device as it is) or a name from device_profiles().
  std::string device_profile = {};
  int reserve_sms = 0;            ///< GPU: leave so many multiprocessors to other work
  std::int64_t spin_limit = 0;    ///< GPU: polls after which a waiting block gives up; 0: the backend's default
  Tuning tuning = Tuning::never;  ///< which arrangement is taken for "auto": by estimates, or as measured
  std::string tuning_cache = {};  ///< the file of measured choices; empty: tuning_cache_file()
  /// One of the arrangements that a named backend offers, as "conservative"; empty: the backend chooses.
  std::string arrangement = {};

  bool operator==(const PlanOptions&) const = default;  ///< member by member
};

/// What a device is, in the numbers that planning needs. Host: all GPU fields are 0.
struct DeviceInfo {
  std::string name;                         ///< the model in its maker's words
  int concurrency = 1;                      ///< host threads of the space instance; GPU: resident threads
  int compute_capability = 0;               ///< 10 * major + minor; 0: not an NVIDIA GPU
  int sm_count = 0;                         ///< multiprocessors
  std::size_t shared_memory_per_block = 0;  ///< bytes, opt-in maximum
  std::size_t shared_memory_per_sm = 0;     ///< bytes
  int registers_per_sm = 0;                 ///< 32-bit registers
  std::size_t l2_bytes = 0;                 ///< bytes of L2 cache
  int max_cluster_size = 1;                 ///< thread blocks; 1: no clusters
  std::size_t memory_bytes = 0;             ///< of the whole device; 0: not known
  int driver = 0;                           ///< CUDA's version that the driver serves, 1000 * major + 10 * minor

  bool operator==(const DeviceInfo&) const = default;  ///< member by member
};

/// The names that PlanOptions::device_profile takes, e.g. "rtx4090".
std::vector<std::string> device_profiles();
/// The figures of that GPU. Throws gru::Error for an unknown profile.
DeviceInfo profile_of(std::string_view profile);
/// The device limited to the profile's figures (never enlarged). Throws gru::Error for an unknown profile.
DeviceInfo apply_profile(DeviceInfo device, std::string_view profile);

/// All that a backend needs to answer yes or no.
struct Problem {
  Config config;        ///< what the weights fix
  PlanOptions options;  ///< what the workload fixes
  DeviceInfo device;    ///< where it runs

  bool operator==(const Problem&) const = default;  ///< member by member
};

/// Throws gru::Error if the config or the options are out of range on their own (before any backend is asked).
void validate(const Problem& problem);

/// A backend's answer: yes, or the reason in words and numbers. A yes may carry a remark.
struct Support {
  bool accepted = false;  ///< the answer
  std::string reason;     ///< of a no; the remark of a yes

  static Support yes(std::string remark = {}) { return {true, std::move(remark)}; }  ///< yes, perhaps with a remark
  /// No, with the reason in words and numbers.
  static Support no(std::string reason) { return {false, std::move(reason)}; }
  explicit operator bool() const { return accepted; }  ///< the answer
};

/// The state of a plan after its last fence: ok, or what went wrong on the device.
struct Status {
  bool ok = true;       ///< nothing went wrong
  std::string message;  ///< what went wrong, and what to do
};

}  // namespace gru
