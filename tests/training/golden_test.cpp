// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gru/io.hpp"
#include "src/accuracy.hpp"
#include "src/format.hpp"
#include "tests/support/gradients.hpp"

// What autograd gives for torch.nn.GRU in float64 (tests/golden/gradients.py), on every backend that trains, in both modes.

namespace gru::test {
namespace {

const std::filesystem::path kFolder = GRU_GOLDEN_DIR;

Field field(const Tensor& tensor, DType dtype) {
  Field result(dtype, tensor.extents());
  result.assign(to_vector<double>(tensor.view()));
  return result;
}

struct Golden {
  std::string name;
  Weights weights;
  PlanOptions options;
  HostCall call(DType dtype) const {
    HostCall c;
    c.x = field(x, dtype);
    if (h0.rank() > 0) c.h0 = field(h0, dtype);
    if (lengths.rank() > 0) {
      c.lengths = Field(DType::int64, lengths.extents());
      c.lengths.assign(to_doubles(lengths));
    }
    c.output = Field(dtype, grad_output.extents());
    return c;
  }
  HostBackward backward(DType dtype) const {
    HostBackward b;
    b.grad_output = field(grad_output, dtype);
    b.grad_h_n = field(grad_h_n, dtype);
    b.grad_x = Field(dtype, x.extents());
    b.grad_h0 = Field(dtype, grad_h_n.extents());
    const Config& c = weights.config();
    for (std::int64_t cell = 0; cell < c.num_layers * c.num_directions(); ++cell) {
      auto& own = b.cells.emplace_back();
      own[0] = Field(dtype, {3 * c.hidden_size, c.layer_input_size(cell / c.num_directions())});
      own[1] = Field(dtype, {3 * c.hidden_size, c.hidden_size});
      if (!c.bias) continue;
      own[2] = Field(dtype, {3 * c.hidden_size});
      own[3] = Field(dtype, {3 * c.hidden_size});
    }
    return b;
  }
  static std::vector<double> to_doubles(const Tensor& t) {
    if (t.dtype() == DType::int32) return {t.data<std::int32_t>(), t.data<std::int32_t>() + t.size()};
    return {t.data<std::int64_t>(), t.data<std::int64_t>() + t.size()};
  }

  Tensor x, h0, lengths, grad_output, grad_h_n;
  std::map<std::string, std::vector<double>> expected;
};

std::vector<Golden> goldens() {
  std::ifstream file(kFolder / "golden.json");
  const auto index = nlohmann::json::parse(file);
  std::vector<Golden> all;
  for (const auto& entry : index.at("cases")) {
    const std::string name = entry.at("name");
    const auto folder = kFolder / "gradients" / name;
    if (!std::filesystem::exists(folder)) continue;
    const auto load_if = [&](bool given, const char* of) { return given ? load_npy(kFolder / name / of) : Tensor(); };
    PlanOptions options;
    options.seq_len = entry.at("seq_len");
    options.batch_size = entry.at("batch_size");
    options.batch_first = entry.at("batch_first");
    Golden golden{name,
                  load_weights(kFolder / name / "weights.safetensors",
                               {.prefix = {}, .reset_after = !entry.at("reset_before").get<bool>()}),
                  options,
                  load_npy(kFolder / name / "x.npy"),
                  load_if(entry.at("h0"), "h0.npy"),
                  load_if(!entry.at("lengths").is_null(), "lengths.npy"),
                  load_npy(folder / "grad_output.npy"),
                  load_npy(folder / "grad_h_n.npy"),
                  {}};
    for (const auto& [of, tensor] : load_safetensors(folder / "gradients.safetensors")) {
      golden.expected[of] = to_vector<double>(tensor.view());
    }
    all.push_back(std::move(golden));
  }
  return all;
}

TEST_CASE("golden gradients: what autograd gives for torch.nn.GRU, on every backend that trains") {
  const std::vector<Golden> all = goldens();
  REQUIRE(all.size() >= 10);
  for (const Golden& golden : all) {
    CAPTURE(golden.name);
    for (const Target& target : targets()) {
      if (has_16_bits(target.dtype)) continue;  // the cases' tensors are not in these types
      for (const Training training : {Training::keep_gates, Training::remake_gates}) {
        PlanOptions options = golden.options;
        options.training = training;
        if (target.math != Math::strict || !target.supports(golden.weights.config(), options)) continue;
        CAPTURE(target.name());
        CAPTURE(name_of(training));
        HostCall call = golden.call(target.dtype);
        HostBackward backward = golden.backward(target.dtype);
        const auto session = target.plan(golden.weights, options);
        session->load(call, backward);
        session->execute();
        session->backward();
        session->fetch(call, backward);
        GradientScenario names;  // only names the gradients
        names.forward.config = golden.weights.config();
        std::size_t checked = 0;
        for (const Gradient& gradient : gradients_of(names, backward)) {
          CAPTURE(gradient.name);
          REQUIRE(golden.expected.contains(gradient.name));
          const Comparison c = compare(golden.expected.at(gradient.name), gradient.values);
          CHECK_MESSAGE(
              c.relative_l2 <= gradient_l2_bar(target.dtype, training),
              fmt::format("relative L2 error {:.3g}, allowed {:.3g}; worst at {}: expected {:.9g}, got {:.9g}",
                          c.relative_l2, gradient_l2_bar(target.dtype, training), c.index, c.expected, c.actual));
          ++checked;
        }
        CHECK(checked == golden.expected.size());
      }
    }
  }
}

}  // namespace
}  // namespace gru::test
