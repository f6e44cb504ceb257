// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>

#include "backends/cuda/dense_step/args.hpp"
#include "backends/cuda/dense_step/schedule.hpp"
#include "backends/cuda/dense_step/wide.hpp"
#include "tests/cuda/profiles.hpp"

// How a step of plain products is made, from numbers alone: no device and no CUDA needed.

namespace gru::cuda {
TEST_CASE("dense step: every tile fits a block of sm_90, and two of each table, all of FFMA, one of sm_89") {
  for (const Element element : {Element::float32, Element::tf32, Element::float16, Element::bfloat16}) {
    for (const bool fused : {false, true}) {
      int small = 0;
      for (int tile = 0; tile < wide_tiles(element); ++tile) {
        const WideTile shape = wide_tile(element, tile, fused);
        CHECK(shape.shared_bytes <= 227 * 1024);
        CHECK(shape.threads <= 256);
        if (shape.shared_bytes <= 99 * 1024) ++small;
      }
      CHECK(small == (element == Element::float32 ? kFfmaTiles : 2));
    }
  }
}

TEST_CASE("dense step: what is chosen fits the device, and no other form is estimated to be faster") {
  for (const std::string_view device : kProfiles) {
    for (const Math math : {Math::strict, Math::tf32, Math::fp16, Math::bf16}) {
      for (const std::int64_t hidden : {1, 40, 256, 500, 1024, 2048}) {
        for (const std::int64_t batch : {1, 16, 64, 256, 1024, 32768}) {
          CAPTURE(device);
          CAPTURE(name_of(math));
          CAPTURE(hidden);
          CAPTURE(batch);
          const Problem p = problem_on(device, hidden, batch, 1, 0, math);
          const DenseStepSchedule s = make_dense_step_schedule(p, build_for(device));
          REQUIRE(s.accepted);
          for (const auto& [step, fused] :
               {std::pair(s.step(batch), false), std::pair(s.fused_step(p.config, batch), true)}) {
            CHECK(step.seconds > 0);
            if (step.form == StepForm::narrow) CHECK(std::ranges::count(kNarrowRows, step.tile) == 1);
            if (step.form != StepForm::wide) continue;
            REQUIRE(step.tile < wide_tiles(s.element));
            CHECK(wide_tile(s.element, step.tile, fused).shared_bytes <= p.device.shared_memory_per_block);
          }
        }
      }
    }
  }
}

TEST_CASE("dense step: few rows are a launch of few rows, more take longer, both directions have no fused step") {
  for (const Math math : {Math::strict, Math::tf32, Math::fp16}) {
    const Problem p = problem_on("h200", 512, 16, 1, 0, math);
    const DenseStepSchedule s = make_dense_step_schedule(p, build_for("h200"));
    CHECK(s.fused_step(p.config, 16).form == StepForm::narrow);
    CHECK(s.fused_step(p.config, 16).tile == 16);
    double before = 0;
    for (const std::int64_t batch : {1, 16, 64, 256, 1024, 4096, 32768}) {
      const double now = s.fused_step(p.config, batch).seconds;
      CHECK(now >= before);
      before = now;
    }
    Config both = p.config;
    both.bidirectional = true;
    CHECK(s.fused_step(both, 16).form == StepForm::product);
    CHECK_FALSE(s.fused_step(both, 16).one_launch());
  }
}

TEST_CASE("dense step: FFMA's tiles shrink with the rows, so that some block is there for nearly each multiprocessor") {
  for (const std::string_view device : {"rtx4090", "h200"}) {
    for (const auto& [hidden, batch] : {std::pair{1024, 1024}, {512, 1024}, {256, 1024}, {512, 256}, {1024, 64}}) {
      CAPTURE(device);
      CAPTURE(hidden);
      CAPTURE(batch);
      const Problem p = problem_on(device, hidden, batch, 1, 0, Math::strict);
      const StepChoice step = make_dense_step_schedule(p, build_for(device)).fused_step(p.config, batch);
      REQUIRE(step.form == StepForm::wide);
      const WideTile tile = wide_tile(Element::float32, step.tile, true);
      const int blocks = hidden / tile.units * (batch / tile.rows);
      CHECK(blocks >= 120);
      CHECK(blocks % 128 == 0);
    }
  }
  // A tile's index is its shape and its rows.
  for (int tile = 0; tile < kFfmaTiles; ++tile) {
    CHECK(wide_tile(Element::float32, tile, true).rows == ffma_shape(tile).rows(ffma_thread_rows(tile)));
    CHECK(ffma_thread_rows(tile) % kFfmaRowStep == 0);
    CHECK(ffma_thread_rows(tile) <= kFfmaRows);
  }
}

}  // namespace gru::cuda
