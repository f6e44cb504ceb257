// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "backends/kokkos/simd/select.hpp"
#include "tests/unit/kokkos/simd_fixture.hpp"

// How a phase is cut, ordered or joined with another changes no bit.
namespace gru::test::simd {
namespace {

TEST_CASE_TEMPLATE("simd: a projection beside a step changes no bit of either", T, float, double) {
  for (const auto* kernels : all_kernels<T>()) {
    if (kernels->step_beside == nullptr) continue;
    // Tiles that outlast the step's blocks, that end before them, and a last one of fewer steps than rows.
    for (const Sizes& s : {Sizes{1, 8, 5, 8}, Sizes{1, 21, 130, 16}, Sizes{1, 16, 3, 160}, Sizes{1, 40, 80, 264}}) {
      Fixture<T> apart(*kernels, s, 4);
      apart.project(0, apart.blocks);
      const std::vector<T> projected(apart.gates.data(), apart.gates.data() + apart.gates.size());
      const int tiles = apart.blocks * ((s.steps + kernels->max_rows - 1) / kernels->max_rows);
      for (const int calls : {1, 3}) {
        for (const bool descending : {false, true}) {
          INFO(kernels->name << " features " << s.features << " hidden " << s.hidden << " calls " << calls);
          Fixture<T> together(*kernels, s, 4);
          Guarded<T> beside(together.gates.size(), T(0));
          gru::simd::BesideArgs<T> args{together.project_args(0, together.blocks)};
          args.project.gates = beside.data();
          for (int i = 0; i < calls; ++i) {
            std::ranges::copy(projected, together.gates.data());
            std::ranges::copy(projected, apart.gates.data());
            apart.step_of(descending, [&](const auto& a) { kernels->step(a); });
            args.tile = tiles * i / calls;
            args.tile_end = tiles * (i + 1) / calls;
            together.step_of(descending, [&](const auto& a) { kernels->step_beside(a, args); });
            CHECK(together.next == apart.next);
            CHECK(together.output == apart.output);
          }
          CHECK(std::equal(projected.begin(), projected.end(), beside.data()));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("simd: how blocks and rows are shared out changes no bit", T, float, double) {
  for (const auto* kernels : all_kernels<T>()) {
    for (const Sizes& s : kSizes) {
      Fixture<T> whole(*kernels, s, 3);
      whole.project(0, whole.blocks);
      auto args = whole.step_args();
      kernels->step(args);

      Fixture<T> parts(*kernels, s, 3);
      for (int b = 0; b < parts.blocks; ++b) parts.project(b, b + 1);
      for (int r = 0; r < s.rows; ++r) {
        for (int b = parts.blocks - 1; b >= 0; --b) {
          auto one = parts.step_args();
          one.gates += static_cast<std::ptrdiff_t>(r) * gru::simd::kGateSlots * kernels->lanes;
          one.state += r * one.state_row;
          one.next += r * one.state_row;
          one.output = static_cast<T*>(one.output) + r * one.output_row;
          one.rows = 1;
          one.block_begin = b;
          one.block_end = b + 1;
          kernels->step(one);
        }
      }
      INFO(kernels->name << " k's " << kernels->per_element << " rows " << s.rows << " hidden " << s.hidden);
      CHECK(whole.next == parts.next);
      CHECK(whole.output == parts.output);
    }
  }
}

TEST_CASE_TEMPLATE("simd: the step with its input is projection and step, bit for bit", T, float, double) {
  for (const auto* kernels : all_kernels<T>()) {
    for (const Sizes& s : kSizes) {
      const bool short_sums = s.features <= kernels->max_depth && s.hidden <= kernels->max_depth;
      if (!short_sums && (s.rows > kernels->max_rows || s.features > gru::simd::kLongestChain)) continue;
      Fixture<T> apart(*kernels, s, 5);
      apart.project(0, apart.blocks);
      kernels->step(apart.step_args());
      Fixture<T> fused(*kernels, s, 5);
      auto args = fused.step_args();
      args.input_weights = fused.w_ih.data();
      args.input_bias = fused.b_ih.data();
      args.x = {fused.x.data(), 0, s.features, 1};
      args.features = s.features;
      args.descending = true;
      kernels->step_with_input(args);
      INFO(kernels->name << " k's " << kernels->per_element << " rows " << s.rows << " features " << s.features
                         << " hidden " << s.hidden);
      CHECK(apart.next == fused.next);
      CHECK(apart.output == fused.output);
    }
  }
}

TEST_CASE_TEMPLATE("simd: rows in another order are the rows that it names, bit for bit", T, float, double) {
  for (const auto* kernels : all_kernels<T>()) {
    for (const Sizes& s : kSizes) {
      std::vector<std::int32_t> order(static_cast<std::size_t>(s.rows));
      for (int i = 0; i < s.rows; ++i) order[static_cast<std::size_t>(i)] = (i * 5 + 3) % s.rows;
      if (s.rows % 5 == 0) continue;  // no order then
      Fixture<T> plain(*kernels, s, 6);
      Fixture<T> ordered(*kernels, s, 6);
      plain.project(0, plain.blocks);
      auto project = ordered.project_args(0, ordered.blocks);
      project.x.order = order.data();
      kernels->project(project);
      for (int t = 0; t < s.steps; ++t) {
        for (int r = 0; r < s.rows; ++r) {
          const auto from = static_cast<int>(order[static_cast<std::size_t>(r)]);
          bool same = true;
          for (int g = 0; g < 3; ++g) {
            for (int u = 0; u < s.hidden; ++u) same = same && ordered.gate(t, r, g, u) == plain.gate(t, from, g, u);
          }
          CHECK(same);
        }
      }
      for (const bool fused : {false, true}) {
        if (fused && (s.rows > kernels->max_rows || s.features > gru::simd::kLongestChain)) continue;
        Fixture<T> want(*kernels, s, 7);  // x and output as they are, states in order: as if all had been copied
        Fixture<T> got(*kernels, s, 7);
        for (int r = 0; r < s.rows; ++r) {
          const auto from = static_cast<std::ptrdiff_t>(order[static_cast<std::size_t>(r)]) * s.features;
          std::copy(got.x.data() + from, got.x.data() + from + s.features,
                    want.x.data() + std::ptrdiff_t{r} * s.features);
        }
        for (Fixture<T>* f : {&want, &got}) {
          auto args = f->step_args();
          args.input_weights = f->w_ih.data();
          args.input_bias = f->b_ih.data();
          args.x = {f->x.data(), 0, s.features, 1, f == &got ? order.data() : nullptr};
          args.features = s.features;
          args.output_order = f == &got ? order.data() : nullptr;
          if (fused) {
            kernels->step_with_input(args);
          } else {
            auto first = f->project_args(0, f->blocks);
            first.x = args.x;
            first.steps = 1;
            kernels->project(first);
            kernels->step(args);
          }
        }
        INFO(kernels->name << " rows " << s.rows << " features " << s.features << " hidden " << s.hidden);
        CHECK(want.next == got.next);
        bool same = true;
        for (int r = 0; r < s.rows; ++r) {
          for (int u = 0; u < s.hidden; ++u) {
            const auto to = static_cast<std::size_t>(order[static_cast<std::size_t>(r)]);
            same = same && got.output[to * s.hidden + u] == want.output[static_cast<std::size_t>(r) * s.hidden + u];
          }
        }
        CHECK(same);
      }
    }
  }
}

}  // namespace
}  // namespace gru::test::simd
