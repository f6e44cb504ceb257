// SPDX-License-Identifier: Apache-2.0
#include "gru/problem.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <limits>

#include "gru/error.hpp"

namespace {

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

TEST_CASE("config: sizes and names") {
  const gru::Config c{.input_size = 3, .hidden_size = 5, .num_layers = 2, .bidirectional = true};
  CHECK_NOTHROW(c.validate());
  CHECK(c.num_directions() == 2);
  CHECK(c.layer_input_size(0) == 3);
  CHECK(c.layer_input_size(1) == 10);
  CHECK(gru::describe(c) == "I=3 H=5 L=2 D=2 bias reset-after");
  CHECK(c == gru::Config{.input_size = 3, .hidden_size = 5, .num_layers = 2, .bidirectional = true});
}

TEST_CASE("config: sizes below 1 and beyond memory are refused by name") {
  const auto refuse = [](const gru::Config& c, const char* message) {
    CHECK_THROWS_WITH_AS(c.validate(), doctest::Contains(message), gru::Error);
  };
  refuse({.input_size = 0, .hidden_size = 1}, "input_size must be at least 1, got 0");
  refuse({.input_size = 1, .hidden_size = -4}, "hidden_size must be at least 1, got -4");
  refuse({.input_size = 1, .hidden_size = 1, .num_layers = 0}, "num_layers must be at least 1, got 0");
  refuse({.input_size = kMax, .hidden_size = 1}, "weight_ih is too large");
  refuse({.input_size = 1, .hidden_size = std::int64_t{1} << 31}, "too large");
  refuse({.input_size = 1, .hidden_size = 1 << 20, .num_layers = std::int64_t{1} << 40}, "too large");
  refuse({.input_size = 1, .hidden_size = kMax}, "too large");
}

gru::Problem good() {
  gru::Problem p;
  p.config = {.input_size = 3, .hidden_size = 5};
  return p;
}

TEST_CASE("problem: options out of range are refused by name") {
  CHECK_NOTHROW(gru::validate(good()));
  struct Case {
    const char* message;
    std::function<void(gru::Problem&)> spoil;
  };
  const Case cases[] = {
      {"batch_size must be at least 0, got -1", [](auto& p) { p.options.batch_size = -1; }},
      {"seq_len must be at least 1, got 0", [](auto& p) { p.options.seq_len = 0; }},
      {"reserve_sms must be at least 0", [](auto& p) { p.options.reserve_sms = -1; }},
      {"spin_limit must be at least 0", [](auto& p) { p.options.spin_limit = -1; }},
      {"float32, float64, float16 or bfloat16, got int64", [](auto& p) { p.options.dtype = gru::DType::int64; }},
      {"math mode tf32 needs dtype float32, float16 or bfloat16, got float64",
       [](auto& p) {
         p.options.dtype = gru::DType::float64;
         p.options.math = gru::Math::tf32;
       }},
      {"x is too large", [](auto& p) { p.options.seq_len = p.options.batch_size = std::int64_t{1} << 40; }},
      {"too large", [](auto& p) { p.options.seq_len = kMax; }},
      {"hidden_size must be at least 1", [](auto& p) { p.config.hidden_size = 0; }},
  };
  for (const Case& one : cases) {
    CAPTURE(one.message);
    gru::Problem p = good();
    one.spoil(p);
    CHECK_THROWS_WITH_AS(gru::validate(p), doctest::Contains(one.message), gru::Error);
  }
}

TEST_CASE("problem: names of math modes and dtypes, and the lists in their errors") {
  for (const gru::Math math :
       {gru::Math::strict, gru::Math::tf32x3, gru::Math::tf32, gru::Math::fp16, gru::Math::bf16}) {
    CHECK(gru::parse_math(gru::name_of(math)) == math);
  }
  CHECK(gru::parse_math("fp32") == gru::Math::strict);
  CHECK_THROWS_WITH_AS(gru::parse_math("fast"),
                       "gru: there is no math mode 'fast'; choose one of strict, fp32, tf32x3, tf32, fp16, bf16",
                       gru::Error);
  CHECK(gru::parse_arithmetic_dtype("float64") == gru::DType::float64);
  CHECK_THROWS_WITH_AS(gru::parse_arithmetic_dtype("int32"),
                       doctest::Contains("choose float32, float64, float16 or bfloat16"), gru::Error);
}

TEST_CASE("problem: a device profile limits and never enlarges") {
  gru::DeviceInfo large;
  large.compute_capability = 90;
  large.sm_count = 132;
  large.shared_memory_per_block = 227 * 1024;
  large.max_cluster_size = 16;
  const gru::DeviceInfo limited = gru::apply_profile(large, "rtx4090");
  CHECK(limited.compute_capability == 89);
  CHECK(limited.sm_count == 128);
  CHECK(limited.shared_memory_per_block == 99 * 1024);
  CHECK(limited.max_cluster_size == 1);
  gru::DeviceInfo small;
  small.sm_count = 40;
  small.shared_memory_per_block = 48 * 1024;
  CHECK(gru::apply_profile(small, "rtx4090").sm_count == 40);
  CHECK(gru::apply_profile(small, "rtx4090").shared_memory_per_block == 48 * 1024);
  CHECK(gru::apply_profile(large, "").sm_count == 132);
  CHECK_THROWS_WITH_AS(gru::apply_profile(large, "rtx9000"), doctest::Contains("choose one of rtx4090"), gru::Error);
  for (const std::string& name : gru::device_profiles()) CHECK_NOTHROW(gru::apply_profile(large, name));
}

TEST_CASE("problem: a device profile is a whole device: limited to itself it stays the same") {
  for (const std::string& name : gru::device_profiles()) {
    CAPTURE(name);
    const gru::DeviceInfo device = gru::profile_of(name);
    CHECK(device.name == name);
    const gru::DeviceInfo same = gru::apply_profile(device, name);
    CHECK(same.compute_capability == device.compute_capability);
    CHECK(same.sm_count == device.sm_count);
    CHECK(same.shared_memory_per_block == device.shared_memory_per_block);
    CHECK(same.l2_bytes == device.l2_bytes);
    CHECK(same.max_cluster_size == device.max_cluster_size);
    CHECK(device.shared_memory_per_block < device.shared_memory_per_sm);
  }
  CHECK(gru::profile_of("a100").compute_capability == 80);
  CHECK(gru::profile_of("h200").max_cluster_size == 16);
  CHECK_THROWS_AS(gru::profile_of(""), gru::Error);
}

}  // namespace
