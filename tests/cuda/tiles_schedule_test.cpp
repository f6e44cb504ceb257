// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <vector>

#include "backends/cuda/tiles/schedule.hpp"
#include "tests/cuda/profiles.hpp"

// Tiles and launches of cuda-tiles, from numbers alone.

namespace gru::cuda {
namespace {

constexpr Build kAll{.cublaslt = true, .hopper = true};

Problem problem(std::int64_t hidden, std::int64_t batch, std::int64_t steps, Math math = Math::fp16) {
  Problem p;
  p.config = {.input_size = hidden, .hidden_size = hidden};
  p.options.batch_size = batch;
  p.options.seq_len = steps;
  p.options.math = math;
  p.device = profile_of("h200");
  return p;
}

}  // namespace

TEST_CASE("tiles schedule: large batches have large tiles, and their blocks are resident at once where they fit") {
  const TileChoice large = best_tile(problem(1024, 1024, 64));
  CHECK(large.tile == PipelinedLarge::shape);
  CHECK(large.at_once);
  CHECK(best_tile(problem(512, 1024, 64)).tile == PipelinedTall::shape);
  CHECK(best_tile(problem(256, 1024, 64)).tile == PipelinedMedium::shape);
  CHECK(best_tile(problem(1536, 32, 64)).tile == PipelinedSmall::shape);
  CHECK_FALSE(best_tile(problem(1024, 4096, 64)).at_once);
  CHECK_FALSE(best_tile(problem(1024, 1024, 1)).at_once);
  Problem reserved = problem(1024, 1024, 64);
  reserved.options.reserve_sms = 10;
  CHECK_FALSE(best_tile(reserved).at_once);
  Problem both = problem(1024, 1024, 64);
  both.config.bidirectional = true;
  CHECK_FALSE(best_tile(both).at_once);
}

TEST_CASE("tiles schedule: what each tile has in a multiprocessor's shared memory") {
  std::vector<PipelinedShape> all(kPipelinedShapes.begin(), kPipelinedShapes.end());
  all.insert(all.end(), kPartsShapes.begin(), kPartsShapes.end());
  for (const PipelinedShape& tile : all) {
    CAPTURE(tile.rows);
    CAPTURE(tile.units);
    CAPTURE(tile.parts);
    CHECK(tile.shared_bytes() <= 227 * 1024);
    CHECK(tile.shared_bytes() + static_cast<std::size_t>(tile.weight_bytes()) > 227 * 1024);  // no more would fit
    CHECK(tile.resident() >= 1);
    CHECK(kRowPadding % tile.pair_units() == 0);
    CHECK(tile.threads() <= 384);
  }
}

TEST_CASE("tiles schedule: tiles in turn are spread evenly over the multiprocessors") {
  const Problem p = problem(1024, 4096, 1);
  CHECK(tiles_at_once(p, 32, 16) == 4);
  CHECK(tiles_at_once(p, 8, 32) == 16);
  CHECK(tiles_at_once(p, 8, 16) == 16);
  CHECK(tiles_at_once(p, 8, 17) == 9);
  CHECK(tiles_at_once(p, 400, 3) == 1);
}

TEST_CASE("tiles schedule: modes, devices and builds") {
  for (const Math math : {Math::tf32x3, Math::tf32, Math::fp16, Math::bf16})
    CHECK(decide_tiles(problem(1024, 1024, 64, math), kAll));
  CHECK_FALSE(decide_tiles(problem(1024, 1024, 64, Math::strict), kAll));
  CHECK_FALSE(decide_tiles(problem(1024, 1024, 64), Build{.cublaslt = true}));
  CHECK(decide_tiles(problem(1024, 1024, 64), Build{.hopper = true}));
  Problem p = problem(1024, 1024, 64);
  p.device = profile_of("rtx4090");
  CHECK_FALSE(decide_tiles(p, kAll));
  p = problem(1024, 1024, 64);
  p.config.reset_after = false;
  CHECK_FALSE(decide_tiles(p, kAll));
  p = problem(1024, 1024, 64);
  p.options.dtype = DType::float64;
  CHECK_FALSE(decide_tiles(p, kAll));
  CHECK_FALSE(decide_tiles(problem(64, std::int64_t{1} << 31U, 1), kAll));
}

TEST_CASE("tiles schedule: a step's kernel, what it multiplies and how weights are packed") {
  const Schedule at_once = *decide_tiles(problem(1024, 1024, 64), kAll).schedule;
  CHECK(at_once.step.cooperative);
  CHECK_FALSE(at_once.plain_states);
  CHECK(at_once.pack.group == 64);
  CHECK(at_once.pack.slices_inputs);
  CHECK(at_once.pack.factors == Factors::float16);
  CHECK(at_once.form_input);
  CHECK(at_once.step.pair_rows);
  const Schedule each = *decide_tiles(problem(1024, 1024, 1, Math::tf32), kAll).schedule;
  CHECK_FALSE(each.step.cooperative);
  CHECK(each.plain_states);
  CHECK(each.pack.factors == Factors::float32);
  const Schedule parts = *decide_tiles(problem(512, 256, 128, Math::tf32x3), kAll).schedule;
  CHECK(parts.step.cooperative);
  CHECK(parts.step.tile.units == PartsSmall::shape.units);
  CHECK(parts.step.parts == 2);
  CHECK(parts.form_state.parts == 2);
  CHECK(parts.form_input.parts == 2);
  CHECK(parts.pack.parts == 2);
  CHECK(each.pack.parts == 1);
  CHECK(tile_arrangements(problem(512, 256, 128, Math::tf32x3)).size() == 2);
  const Config config{.input_size = 70, .hidden_size = 100, .num_layers = 2, .bidirectional = true};
  CHECK(sliced_depth(config, 0, Factors::float16) == 128);
  CHECK(sliced_depth(config, 0, Factors::float32) == 96);
  CHECK(sliced_depth(config, 1, Factors::float16) == 256);
}

}  // namespace gru::cuda
