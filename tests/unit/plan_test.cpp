#include <doctest/doctest.h>

#include <vector>

#include "gru/gru.hpp"

namespace {

using Host = Kokkos::DefaultHostExecutionSpace;

TEST_CASE("plan: one unit, one step, by hand") {
  // H = I = 1, all weights 0 and no bias: r = z = 1/2, n = 0, so h' = h / 2.
  const std::vector<float> zero(3, 0.0F);
  const gru::Config config{.input_size = 1, .hidden_size = 1, .bias = false};
  const gru::Weights weights(config, {{.weight_ih = gru::tensor_view(zero.data(), {3, 1}),
                                       .weight_hh = gru::tensor_view(zero.data(), {3, 1}),
                                       .bias_ih = {},
                                       .bias_hh = {}}});
  const float x = 7.0F;
  const float h0 = 3.0F;
  float output = 0;
  float h_n = 0;
  gru::forward(Host{}, weights,
               {.x = gru::tensor_view(&x, {1, 1, 1}),
                .h0 = gru::tensor_view(&h0, {1, 1, 1}),
                .output = gru::tensor_view(&output, {1, 1, 1}),
                .h_n = gru::tensor_view(&h_n, {1, 1, 1})});
  CHECK(output == 1.5F);
  CHECK(h_n == 1.5F);
}

}  // namespace
