// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/projection/dense_product.hpp"

#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "backends/cuda/common/runtime.hpp"
#include "gru/gru.hpp"

// The input projections' products against sums in double.

namespace gru::cuda {
namespace {

bool ready() {
  if (!SpaceTraits<CudaStream>::available()) {
    std::puts("skipped: no CUDA device");
    return false;
  }
  if (!kHasDenseProduct) std::puts("skipped: built without cuBLASLt");
  return kHasDenseProduct;
}

std::vector<float> random_values(std::int64_t count, std::mt19937& engine) {
  std::uniform_real_distribution<float> draw(-1.0F, 1.0F);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& v : values) v = draw(engine);
  return values;
}

/// Host values on the device, `offset` elements after the start of their memory.
struct OnDevice {
  OnDevice(StreamRef stream, const std::vector<float>& values, std::int64_t offset)
      : memory(allocate(stream, "a test's values", (values.size() + 64) * sizeof(float))),
        data(reinterpret_cast<float*>(memory.get()) + offset) {
    upload(stream, data, values.data(), values.size() * sizeof(float));
  }
  std::shared_ptr<std::byte> memory;
  float* data;
};

/// The largest error of any y, in units of eps * (|x| . |w| + |bias|): the rounding of one product of the sum.
/// prepared_rows: of the shape that was prepared; 0: as many.
double error_of(const DenseShape& s, Math math, std::int64_t offset, std::int64_t prepared_rows = 0) {
  const CudaStream space;
  const StreamRef stream = stream_of(space);
  std::mt19937 engine(7);
  const auto x = random_values(s.rows * s.x_stride, engine);
  const auto w = random_values(s.batches * s.columns * s.w_stride, engine);
  const auto bias = random_values(s.batches * s.columns, engine);
  std::vector<float> y(static_cast<std::size_t>(s.batches * s.rows * s.columns), -9.0F);
  const OnDevice dx(stream, x, offset), dw(stream, w, offset), dbias(stream, bias, offset), dy(stream, y, offset);
  DenseProduct product(stream, math);
  if (prepared_rows == 0) {
    product.prepare(stream, s, dx.data, dw.data, dbias.data, dy.data);
    REQUIRE(product.run(stream, s, dx.data, dw.data, dbias.data, dy.data));
  } else {
    DenseShape prepared = s;
    prepared.rows = prepared_rows;
    const OnDevice longer(stream, random_values(prepared_rows * s.x_stride, engine), offset);
    const OnDevice unused(stream, random_values(s.batches * prepared_rows * s.columns, engine), offset);
    product.prepare(stream, prepared, longer.data, dw.data, dbias.data, unused.data);
    REQUIRE(product.run(stream, s, dx.data, dw.data, dbias.data, dy.data));
  }
  const auto* data = dy.data;
  check(cudaMemcpyAsync(y.data(), data, y.size() * sizeof(float), cudaMemcpyDeviceToHost, stream.stream),
        "the copy back");
  check(cudaStreamSynchronize(stream.stream), "cudaStreamSynchronize");

  double worst = 0;
  std::size_t i = 0;
  for (std::int64_t d = 0; d < s.batches; ++d) {
    for (std::int64_t r = 0; r < s.rows; ++r) {
      for (std::int64_t c = 0; c < s.columns; ++c, ++i) {
        double sum = bias[static_cast<std::size_t>(d * s.columns + c)], size = std::abs(sum);
        for (std::int64_t k = 0; k < s.depth; ++k) {
          const double term = static_cast<double>(x[static_cast<std::size_t>(r * s.x_stride + k)]) *
                              static_cast<double>(w[static_cast<std::size_t>((d * s.columns + c) * s.w_stride + k)]);
          sum += term;
          size += std::abs(term);
        }
        worst = std::max(worst, std::abs(static_cast<double>(y[i]) - sum) / size);
      }
    }
  }
  return worst / std::numeric_limits<float>::epsilon();
}

const DenseShape kShapes[] = {
    {.rows = 1, .columns = 1, .depth = 1, .batches = 1, .x_stride = 1, .w_stride = 1},
    {.rows = 1, .columns = 96, .depth = 3, .batches = 2, .x_stride = 3, .w_stride = 32},
    {.rows = 67, .columns = 192, .depth = 33, .batches = 2, .x_stride = 35, .w_stride = 64},
    {.rows = 130, .columns = 768, .depth = 128, .batches = 2, .x_stride = 128, .w_stride = 128},
    {.rows = 40, .columns = 96, .depth = 2500, .batches = 2, .x_stride = 2504, .w_stride = 2504},  // in parts
};

TEST_CASE("dense product: strict float32 is float32's own error, whatever the alignment") {
  if (!ready()) return;
  for (const DenseShape& s : kShapes) {
    for (const std::int64_t offset : {0, 1}) {
      CAPTURE(s.rows);
      CAPTURE(offset);
      CHECK(error_of(s, Math::strict, offset) <=
            static_cast<double>(s.depth + 1));  // Higham: gamma_n = n u, u = eps / 2
    }
  }
}

TEST_CASE("dense product: fewer rows than prepared run at once, other shapes not at all") {
  if (!ready()) return;
  for (const std::int64_t rows : {1, 67, 129, 130}) {
    for (const std::int64_t batches : {1, 2}) {
      CAPTURE(rows);
      CAPTURE(batches);
      const DenseShape s{.rows = rows, .columns = 192, .depth = 36, .batches = batches, .x_stride = 36, .w_stride = 64};
      CHECK(error_of(s, Math::strict, 0, 130) <= static_cast<double>(s.depth + 1));
    }
  }
  const CudaStream space;
  const StreamRef stream = stream_of(space);
  DenseProduct product(stream, Math::strict);
  const std::shared_ptr<std::byte> memory = allocate(stream, "a test's values", std::size_t{1} << 20);
  auto* const p = reinterpret_cast<float*>(memory.get());
  const DenseShape known{.rows = 64, .columns = 96, .depth = 32, .x_stride = 32, .w_stride = 32};
  CHECK_FALSE(product.run(stream, known, p, p, p, p + 65536));
  product.prepare(stream, known, p, p, p, p + 65536);
  CHECK(product.run(stream, known, p, p, p, p + 65536));
  DenseShape other = known;
  other.rows = 65;
  CHECK_FALSE(product.run(stream, other, p, p, p, p + 65536));
  other = known;
  other.depth = 31;
  CHECK_FALSE(product.run(stream, other, p, p, p, p + 65536));
  CHECK_FALSE(product.run(stream, known, p + 1, p, p, p + 65536));
}

TEST_CASE("dense product: tf32 is within the rounding of its factors to 11 bits, and uses it") {
  if (!ready()) return;
  constexpr double kTf32 = 0x1p-9 / std::numeric_limits<float>::epsilon();  // both factors cut to 2^-10
  double worst = 0;
  for (const DenseShape& s : kShapes) worst = std::max(worst, error_of(s, Math::tf32, 0));
  CHECK(worst <= kTf32 + 129);
  CHECK(worst > 129);  // else it was strict
}

TEST_CASE("dense product: nothing to multiply is nothing launched") {
  if (!ready()) return;
  const CudaStream space;
  DenseProduct product(stream_of(space), Math::strict);
  CHECK_NOTHROW(
      product.prepare(stream_of(space), {.rows = 0, .columns = 96, .depth = 8}, nullptr, nullptr, nullptr, nullptr));
  CHECK(product.run(stream_of(space), {.rows = 0, .columns = 96, .depth = 8}, nullptr, nullptr, nullptr, nullptr));
}

}  // namespace
}  // namespace gru::cuda
