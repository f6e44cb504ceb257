// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "accuracy.hpp"
#include "gru/error.hpp"
#include "gru/io.hpp"
#include "src/format.hpp"
#include "tests/support/targets.hpp"

// What the real torch.nn.GRU computed in float64 (tests/golden/README.md), on every backend, dtype and math mode of
// this build. The cases come through the library's own file readers; the tolerance comes from the case's measured
// condition.

namespace gru::test {
namespace {

using Json = nlohmann::json;

const std::filesystem::path kFolder = GRU_GOLDEN_DIR;

struct Golden {
  std::string name;
  Weights weights;
  PlanOptions options;  // sizes and batch_first; the target adds its own
  Tensor x, h0, lengths, output, h_n;
  Condition condition;
  bool at_initial_scale = true;  // inputs of the size that torch's initialisation is made for
  std::string exact_in;          // a type of 16 bits that holds all its data, and torch's own error in it
  double torch_error = 0;
};

Tensor load_if(bool given, const std::filesystem::path& path) { return given ? load_npy(path) : Tensor(); }

Golden load(const Json& entry) {
  const std::string name = entry.at("name");
  const auto folder = kFolder / name;
  PlanOptions options;
  options.seq_len = entry.at("seq_len");
  options.batch_size = entry.at("batch_size");
  options.batch_first = entry.at("batch_first");
  const WeightOptions how{.prefix = {}, .reset_after = !entry.at("reset_before").get<bool>()};
  return {.name = name,
          .weights = load_weights(folder / "weights.safetensors", how),
          .options = options,
          .x = load_npy(folder / "x.npy"),
          .h0 = load_if(entry.at("h0"), folder / "h0.npy"),
          .lengths = load_if(!entry.at("lengths").is_null(), folder / "lengths.npy"),
          .output = load_npy(folder / "output.npy"),
          .h_n = load_npy(folder / "h_n.npy"),
          .condition = {.element = entry.at("condition").at("element"), .l2 = entry.at("condition").at("l2")},
          .at_initial_scale = entry.at("max_abs_x").get<double>() < 10,
          .exact_in = entry.value("torch_in", ""),
          .torch_error = entry.value("torch_error", 0.0)};
}

const Json& index() {
  static const Json read = [] {
    std::ifstream file(kFolder / "golden.json");
    return Json::parse(file).at("cases");
  }();
  return read;
}

const std::vector<Golden>& goldens() {
  static const std::vector<Golden> all = [] {
    std::vector<Golden> loaded;
    for (const Json& entry : index()) loaded.push_back(load(entry));
    return loaded;
  }();
  return all;
}

std::vector<double> integers(const Tensor& tensor) {
  if (tensor.dtype() == DType::int32) return {tensor.data<std::int32_t>(), tensor.data<std::int32_t>() + tensor.size()};
  return {tensor.data<std::int64_t>(), tensor.data<std::int64_t>() + tensor.size()};
}

Field field(const Tensor& tensor, DType dtype) {
  if (tensor.rank() == 0) return {};
  Field result(dtype, tensor.extents());
  result.assign(to_vector<double>(tensor.view()));
  return result;
}

HostCall host_call(const Golden& golden, DType dtype) {
  HostCall call;
  call.x = field(golden.x, dtype);
  call.h0 = field(golden.h0, dtype);
  if (golden.lengths.rank() > 0) {
    call.lengths = Field(golden.lengths.dtype(), golden.lengths.extents());
    call.lengths.assign(integers(golden.lengths));
  }
  call.output = Field(dtype, golden.output.extents());
  call.h_n = Field(dtype, golden.h_n.extents());
  return call;
}

// "output (3, 0, 4)" for an index into output's and h_n's elements in a row.
std::string place(const Golden& golden, std::size_t index) {
  const auto outputs = static_cast<std::size_t>(golden.output.size());
  const Tensor& tensor = index < outputs ? golden.output : golden.h_n;
  auto rest = static_cast<std::int64_t>(index < outputs ? index : index - outputs);
  std::vector<std::int64_t> at;
  for (std::size_t d = tensor.extents().size(); d-- > 0;) {
    at.insert(at.begin(), rest % tensor.extents()[d]);
    rest /= tensor.extents()[d];
  }
  return fmt::format("{} ({})", index < outputs ? "output" : "h_n", fmt::join(at, ", "));
}

std::vector<double> in_a_row(std::vector<double> first, const std::vector<double>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

void check(const Golden& golden, const Target& target) {
  CAPTURE(golden.name);
  CAPTURE(target.name());
  const Support support = target.supports(golden.weights.config(), golden.options);
  if (!support) {
    CHECK_MESSAGE(!target.is_host, "a host backend must take every case, but: ", support.reason);
    MESSAGE("not run: ", support.reason);
    return;
  }
  HostCall call = host_call(golden, target.dtype);
  const auto session = target.plan(golden.weights, golden.options);
  session->load(call);
  session->execute();
  session->fetch(call);

  const std::vector<double> expected =
      in_a_row(to_vector<double>(golden.output.view()), to_vector<double>(golden.h_n.view()));
  const Comparison found = compare(expected, in_a_row(call.output.values(), call.h_n.values()));

  PlanOptions options = golden.options;
  options.dtype = target.dtype;
  options.math = target.math;
  Tolerance allowed = tolerance({golden.weights.config(), options, {}}, options.seq_len, golden.condition);
  const bool exact = !has_16_bits(target.dtype) || golden.exact_in == name_of(target.dtype);
  if (!exact) {  // x and h0 have been rounded to 16 bits, the expected results come from what they were
    allowed.element += 4 * unit_roundoff(target.dtype) * golden.condition.element;
    allowed.l2 += 4 * unit_roundoff(target.dtype) * golden.condition.l2;
  } else if (has_strict_bar(target.math) && golden.at_initial_scale) {
    allowed.l2 = std::min(allowed.l2, strict_l2_bar(target.dtype));
  }
  if (golden.exact_in == name_of(target.dtype)) allowed.l2 = std::min(allowed.l2, golden.torch_error);
  CHECK_MESSAGE(found.worst <= allowed.element,
                fmt::format("{}: expected {:.17g}, got {:.17g}: off by {:.3g}, allowed {:.3g}",
                            place(golden, found.index), found.expected, found.actual, found.worst, allowed.element));
  CHECK_MESSAGE(found.relative_l2 <= allowed.l2,
                fmt::format("relative L2 error {:.3g}, allowed {:.3g}", found.relative_l2, allowed.l2));
}

}  // namespace

TEST_CASE("golden: what torch.nn.GRU computed, on every backend") {
  REQUIRE(goldens().size() >= 12);
  for (const Target& target : targets()) {
    for (const Golden& golden : goldens()) check(golden, target);
  }
}

TEST_CASE("golden: the config is found in the weights") {
  for (std::size_t i = 0; i < goldens().size(); ++i) {
    const Json& entry = index()[i];
    CAPTURE(entry.at("name").get<std::string>());
    const Config expected{.input_size = entry.at("input_size"),
                          .hidden_size = entry.at("hidden_size"),
                          .num_layers = entry.at("num_layers"),
                          .bias = entry.at("bias"),
                          .bidirectional = entry.at("bidirectional"),
                          .reset_after = !entry.at("reset_before").get<bool>()};
    CHECK(describe(goldens()[i].weights.config()) == describe(expected));
  }
}

TEST_CASE("golden: a prefix may be given instead of found") {
  const auto path = kFolder / "state_dict" / "weights.safetensors";
  const Config found = load_weights(path).config();
  for (const char* prefix : {"encoder.gru.", "encoder.gru"}) {
    CHECK(describe(load_weights(path, {.prefix = prefix}).config()) == describe(found));
  }
  CHECK_THROWS_AS(load_weights(path, {.prefix = "decoder.gru."}), Error);
}

// The comparison can fail: an element off by 1e-4 of itself is noticed in float32.
TEST_CASE("golden: a wrong result is out of tolerance") {
  const Golden& golden = goldens().front();
  const std::vector<double> expected = to_vector<double>(golden.output.view());
  std::vector<double> wrong = expected;
  wrong.back() *= 1 + 1e-4;
  PlanOptions options = golden.options;
  const Tolerance allowed = tolerance({golden.weights.config(), options, {}}, options.seq_len, golden.condition);
  CHECK(compare(expected, wrong).worst > allowed.element);
  CHECK(compare(expected, expected).worst == 0);
}

}  // namespace gru::test
