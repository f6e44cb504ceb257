// SPDX-License-Identifier: Apache-2.0
#include "gru/call.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "gru/error.hpp"

// Canonical calls: T = 4, B = 3, I = 5, H = 6, L = 2, D = 2; the plan's maxima are one larger.

namespace {

using gru::DType;

gru::Problem problem() {
  gru::Problem p;
  p.config = {.input_size = 5, .hidden_size = 6, .num_layers = 2, .bidirectional = true};
  p.options.seq_len = 5;
  p.options.batch_size = 4;
  return p;
}

struct Memory {
  std::vector<float> x = std::vector<float>(400), h0 = x, output = x, h_n = x;
  std::vector<std::int64_t> lengths = {1, 4, 2};

  gru::Call call() {
    return {.x = gru::tensor_view(x.data(), {4, 3, 5}),
            .h0 = gru::tensor_view(h0.data(), {4, 3, 6}),
            .lengths = gru::tensor_view(lengths.data(), {3}),
            .output = gru::tensor_view(output.data(), {4, 3, 12}),
            .h_n = gru::tensor_view(h_n.data(), {4, 3, 6})};
  }
};

TEST_CASE("call: batch first swaps the strides of x and output only") {
  Memory m;
  gru::Problem p = problem();
  p.options.batch_first = true;
  gru::Call call = m.call();
  call.x = gru::tensor_view(m.x.data(), {3, 4, 5});
  call.output = gru::tensor_view(m.output.data(), {3, 4, 12});
  const gru::Call c = gru::canonical(call, p);
  CHECK(c.x.extents == gru::Dims{4, 3, 5});
  CHECK(c.x.strides == gru::Dims{5, 20, 1});
  CHECK(c.output.extents == gru::Dims{4, 3, 12});
  CHECK(c.output.strides == gru::Dims{12, 48, 1});
  CHECK(c.h0.strides == call.h0.strides);
  CHECK(c.h_n.strides == call.h_n.strides);
}

TEST_CASE("call: an unbatched x is a batch of one, whatever batch_first says") {
  Memory m;
  for (const bool batch_first : {false, true}) {
    gru::Problem p = problem();
    p.options.batch_first = batch_first;
    const gru::Call c = gru::canonical({.x = gru::tensor_view(m.x.data(), {4, 5}),
                                        .h0 = gru::tensor_view(m.h0.data(), {4, 6}),
                                        .lengths = {},
                                        .output = gru::tensor_view(m.output.data(), {4, 12}),
                                        .h_n = gru::tensor_view(m.h_n.data(), {4, 6})},
                                       p);
    CHECK(c.x.rank == 3);
    CHECK(c.x.extents == gru::Dims{4, 1, 5});
    CHECK(c.x.strides == gru::Dims{5, 0, 1});
    CHECK(c.h0.extents == gru::Dims{4, 1, 6});
    CHECK(c.h_n.strides == gru::Dims{6, 0, 1});
    CHECK(c.output.extents == gru::Dims{4, 1, 12});
  }
}

TEST_CASE("call: what does not fit is refused with the tensor's name, what was expected and what came") {
  Memory m;
  float* const x = m.x.data();
  float* const h = m.h0.data();
  double wide = 0;
  struct Case {
    const char* message;
    std::function<void(gru::Call&)> spoil;
  };
  const Case cases[] = {
      {"x: is missing", [](gru::Call& c) { c.x = {}; }},
      {"x: expected rank 3", [&](gru::Call& c) { c.x = gru::tensor_view(x, {5}); }},
      {"x: expected rank 3", [](gru::Call& c) { c.x.rank = 17; }},
      {"x: expected float32 (the plan's dtype), got float64",
       [&](gru::Call& c) {
         c.x = gru::tensor_view(static_cast<const double*>(&wide), {4, 3, 5});
       }},
      {"x: negative extents (4, -3, 5)", [](gru::Call& c) { c.x.extents[1] = -3; }},
      {"x: the data pointer is null", [](gru::Call& c) { c.x.data = nullptr; }},
      {"x: expected 5 features (input_size) in (T, B, I), got 6",
       [&](gru::Call& c) {
         c.x = gru::tensor_view(x, {4, 3, 6});
       }},
      {"x: expected at least one time step, got T = 0",
       [&](gru::Call& c) {
         c.x = gru::tensor_view(x, {0, 3, 5});
       }},
      {"x: T = 6, B = 3 exceed the plan's seq_len = 5, batch_size = 4",
       [&](gru::Call& c) {
         c.x = gru::tensor_view(x, {6, 3, 5});
       }},
      {"x: T = 4, B = 5 exceed",
       [&](gru::Call& c) {
         c.x = gru::tensor_view(x, {4, 5, 5});
       }},
      {"h0: expected rank 3 (L*D, B, H), got rank 2",
       [&](gru::Call& c) {
         c.h0 = gru::tensor_view(h, {4, 6});
       }},
      {"h0: expected (L*D, B, H), whatever batch_first says, = (4, 3, 6), got (3, 4, 6)",
       [&](gru::Call& c) {
         c.h0 = gru::tensor_view(h, {3, 4, 6});
       }},
      {"h0: expected float32", [](gru::Call& c) { c.h0.dtype = DType::float64; }},
      {"h_n: expected (L*D, B, H)",
       [&](gru::Call& c) {
         c.h_n = gru::tensor_view(m.h_n.data(), {2, 3, 6});
       }},
      {"output: expected (T, B, D*H) after batch_first is undone = (4, 3, 12), got (4, 3, 6)",
       [&](gru::Call& c) {
         c.output = gru::tensor_view(m.output.data(), {4, 3, 6});
       }},
      {"output: expected rank 3",
       [&](gru::Call& c) {
         c.output = gru::tensor_view(m.output.data(), {4, 12});
       }},
      {"lengths: expected int32 or int64, got float32", [&](gru::Call& c) { c.lengths = gru::tensor_view(x, {3}); }},
      {"lengths: expected (B) = (3), got (4)",
       [&](gru::Call& c) { c.lengths = gru::tensor_view(m.lengths.data(), {4}); }},
      {"lengths: expected rank 1 (B)",
       [&](gru::Call& c) {
         c.lengths = gru::tensor_view(m.lengths.data(), {3, 1});
       }},
      {"lengths: cannot be given with an unbatched x",
       [&](gru::Call& c) {
         c = {.x = gru::tensor_view(x, {4, 5}), .h0 = {}, .lengths = c.lengths, .output = {}, .h_n = {}};
       }},
      {"output: an output's elements must be distinct", [](gru::Call& c) { c.output.strides[1] = 0; }},
      {"h_n: an output's elements must be distinct",
       [](gru::Call& c) {
         c.h_n.strides = {6, 6, 1};
       }},
      {"output: an output's elements must be distinct",
       [](gru::Call& c) {
         c.output.strides = {36, 6, 2};
       }},
      {"output: an output's elements must be distinct",
       [](gru::Call& c) {
         c.output.strides = {12, -12, 1};
       }},
      {"output: shares memory with x", [&](gru::Call& c) { c.output.data = x; }},
      {"output: shares memory with h0", [&](gru::Call& c) { c.output.data = h + 5; }},
      {"output: shares memory with h_n", [&](gru::Call& c) { c.output.data = m.h_n.data() + 71; }},
      {"h_n: shares memory with h0", [&](gru::Call& c) { c.h_n.data = h; }},
      {"h_n: shares memory with x", [&](gru::Call& c) { c.h_n.data = x + 59; }},
  };
  for (const Case& one : cases) {
    CAPTURE(one.message);
    gru::Call call = m.call();
    one.spoil(call);
    CHECK_THROWS_WITH_AS(gru::canonical(call, problem()), doctest::Contains(one.message), gru::Error);
  }
  CHECK_NOTHROW(gru::canonical(m.call(), problem()));
}

TEST_CASE("call: interleaved views are no overlap") {
  Memory m;
  gru::Call call = m.call();
  // x and output as column blocks of one matrix of 17 columns, the second one from column 5 on.
  call.x = gru::tensor_view(static_cast<const float*>(m.x.data()), {4, 3, 5}, {51, 17, 1});
  call.output = gru::tensor_view(m.x.data() + 5, {4, 3, 12}, {51, 17, 1});
  CHECK_NOTHROW(gru::canonical(call, problem()));
  // Neighbours that touch.
  call = m.call();
  call.h_n.data = m.output.data() + 4 * 3 * 12;
  CHECK_NOTHROW(gru::canonical(call, problem()));
  // Strides that are no multiples of each other and still never meet.
  call = m.call();
  call.h_n = gru::tensor_view(m.h_n.data(), {4, 3, 6}, {18, 1, 3});
  CHECK_NOTHROW(gru::canonical(call, problem()));
}

TEST_CASE("call: an empty batch needs no memory") {
  CHECK_NOTHROW(gru::canonical({.x = gru::tensor_view(static_cast<const float*>(nullptr), {4, 0, 5}),
                                .h0 = {},
                                .lengths = {},
                                .output = gru::tensor_view(static_cast<float*>(nullptr), {4, 0, 12}),
                                .h_n = {}},
                               problem()));
}

TEST_CASE("call: lengths outside 0..T are refused by index") {
  Memory m;
  const gru::Call call = gru::canonical(m.call(), problem());
  CHECK_NOTHROW(gru::check_host_lengths(call));
  m.lengths[1] = 0;
  CHECK_NOTHROW(gru::check_host_lengths(call));
  for (const std::int64_t bad : {std::int64_t{-2}, std::int64_t{-1}, std::int64_t{5}, std::int64_t{1} << 40}) {
    m.lengths[2] = bad;
    CHECK_THROWS_WITH_AS(gru::check_host_lengths(call),
                         doctest::Contains(("expected 0..4 (T), got " + std::to_string(bad) + " at index 2").c_str()),
                         gru::Error);
  }
  const std::vector<std::int32_t> narrow = {4, 9, 1, 9, 2, 9};
  gru::Call strided = call;
  strided.lengths = gru::tensor_view(narrow.data(), {3}, {2});
  CHECK_NOTHROW(gru::check_host_lengths(strided));
  strided.lengths = gru::tensor_view(narrow.data(), {3});
  CHECK_THROWS_WITH_AS(gru::check_host_lengths(strided), doctest::Contains("got 9 at index 1"), gru::Error);
}

}  // namespace
