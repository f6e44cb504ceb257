// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/packing/packing.hpp"

#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "gru/gru.hpp"
#include "gru/half.hpp"

// What the packing kernel leaves in memory, bit by bit, against the same maps walked on the host.
// packing_forms_test.cpp has the maps themselves.

namespace gru::cuda {
namespace {

constexpr std::int64_t kHidden = 37, kInputs = 21;

float to_tf32(float value) {
  if (!std::isfinite(value)) return value;
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(value) + 0x1000U) & ~0x1fffU);
}

template <class T>
void append(std::vector<std::byte>& bytes, std::int64_t index, T value) {
  std::memcpy(bytes.data() + index * static_cast<std::int64_t>(sizeof(T)), &value, sizeof(T));
}

struct Packed {
  PackForm form;
  Stored stored;
  std::int64_t elements;  ///< of memory
  bool in_two_parts() const { return stored == Stored::tf32x3 && form.kind == PackForm::Kind::sliced; }
  std::int64_t bytes() const {
    return elements * (stored == Stored::float64                                 ? 8
                       : stored == Stored::float16 || stored == Stored::bfloat16 ? 2
                       : stored == Stored::tf32x3                                ? (in_two_parts() ? 8 : 12)
                                                                                 : 4);
  }
};

/// A matrix (3H, K) of values in double, as `p` says.
std::vector<std::byte> matrix_on_host(const Packed& p, const std::vector<double>& values, std::int64_t columns) {
  std::vector<std::byte> bytes(at(p.bytes()));
  for (std::int64_t i = 0; i < p.form.count(); ++i) {
    const auto place = p.form.place(i);
    const bool there = place.unit < kHidden && place.column < columns;
    const double value = there ? values[at((place.gate * kHidden + place.unit) * columns + place.column)] : 0.0;
    const auto narrow = static_cast<float>(value);
    switch (p.stored) {
      case Stored::float64: append(bytes, place.to, value); break;
      case Stored::tf32: append(bytes, place.to, to_tf32(narrow)); break;
      case Stored::float16: append(bytes, place.to, rounded_to<Float16>(narrow)); break;
      case Stored::bfloat16: append(bytes, place.to, rounded_to<BFloat16>(narrow)); break;
      case Stored::tf32x3: {
        if (p.in_two_parts()) {  // eight rows of 32 features of the one, then of the other
          const std::int64_t to = place.to / 256 * 512 + place.to % 256;
          const bool finite = std::isfinite(narrow);
          const float cut = finite ? std::bit_cast<float>(std::bit_cast<std::uint32_t>(narrow) & ~0x1fffU) : narrow;
          const float rest = finite ? to_tf32(narrow - cut) : narrow;
          append(bytes, to, cut);
          append(bytes, to + 256, narrow != 0.0F && narrow == cut && finite ? std::copysign(0x1p-126F, narrow) : rest);
          break;
        }
        const float big = to_tf32(narrow), small = std::isfinite(big) ? to_tf32(narrow - big) : 0.0F;
        const std::int64_t pitch = p.form.rows.pitch, row = place.to / pitch * 3 * pitch + place.to % pitch;
        append(bytes, row, std::isfinite(big) ? big : 0.0F);
        append(bytes, row + pitch, small);
        append(bytes, row + 2 * pitch, big);
        break;
      }
      default: append(bytes, place.to, narrow);
    }
  }
  return bytes;
}

std::vector<std::byte> bias_on_host(const Packed& p, const std::vector<double>& ih, const std::vector<double>& hh,
                                    bool reset_after) {
  std::vector<std::byte> bytes(at(p.bytes()));
  for (std::int64_t i = 0; i < p.form.count(); ++i) {
    const auto place = p.form.place(i);
    double value = 0.0;
    if (place.unit < kHidden) {
      const std::size_t row = at(std::min(place.gate, 2) * kHidden + place.unit);
      value = folded_bias(place.gate, reset_after, ih[row], hh[row]);
    }
    if (p.stored == Stored::float64) {
      append(bytes, place.to, value);
    } else {
      append(bytes, place.to, static_cast<float>(value));
    }
  }
  return bytes;
}

std::vector<std::byte> fetch(StreamRef stream, const std::byte* from, std::int64_t bytes) {
  std::vector<std::byte> host(at(bytes));
  check(cudaMemcpyAsync(host.data(), from, host.size(), cudaMemcpyDeviceToHost, stream.stream), "cudaMemcpyAsync");
  check(cudaStreamSynchronize(stream.stream), "cudaStreamSynchronize");
  return host;
}

std::vector<Packed> forms(std::int64_t columns) {
  const int units = 64, pitch = static_cast<int>(round_up(columns, 32));
  const std::int64_t all = std::int64_t{3} * units * pitch;
  const LaneMap lanes{.units = 32, .lane_units = 2, .depth = 16, .warps = 8};
  std::vector<Packed> found;
  for (const Stored stored :
       {Stored::float32, Stored::float64, Stored::tf32, Stored::tf32x3, Stored::float16, Stored::bfloat16}) {
    found.push_back({RowsForm{units, pitch, pitch, pitch}, stored, all});
  }
  found.push_back({GatesForm{units, pitch}, Stored::float32, all});
  found.push_back({TiledForm{units, pitch, 16}, Stored::tf32, all});
  found.push_back({SlicedForm{units, pitch, 16}, Stored::tf32, all});
  found.push_back({SlicedForm{units, pitch, 16}, Stored::tf32x3, all});
  const LanesForm by_lanes{lanes, 2};
  found.push_back({by_lanes, Stored::float32, by_lanes.count()});
  found.push_back({SlicedForm{units, static_cast<int>(round_up(columns, 64)), 16, 8}, Stored::float16,
                   std::int64_t{3} * units * round_up(columns, 64)});
  const MmaLanesForm by_mma{{.units = 32, .depth = 256, .warps = 8}, 2};
  found.push_back({by_mma, Stored::bfloat16, by_mma.count()});
  const MmaTeamForm small{{4, 1, 4}, true};
  found.push_back({small, Stored::float16, std::int64_t{4} * small.map.vectors() * 32 * 8});
  const TeamForm team{32, 2, 64, 5, 60};
  found.push_back({team, Stored::float32, std::int64_t{2} * 60 * 128});
  return found;
}

/// Zeros where the form puts nothing, as between a team's vectors, which are another matrix's.
void clear_between(const Packed& p, std::vector<std::byte>& bytes) {
  if (p.stored == Stored::tf32x3) return;  // rows alone, without gaps
  const std::size_t size = bytes.size() / at(p.elements);
  std::vector<bool> mine(at(p.elements));
  for (std::int64_t i = 0; i < p.form.count(); ++i) mine[at(p.form.place(i).to)] = true;
  for (std::size_t i = 0; i < mine.size(); ++i) {
    if (!mine[i]) std::memset(bytes.data() + i * size, 0, size);
  }
}

/// Values with an infinity, a NaN, a subnormal and what rounds to infinity among them.
std::vector<double> values_of(Weights& weights, bool awkward) {
  const ConstTensorView view = weights.cell(0, 0).weight_ih;
  if (awkward && view.dtype == DType::float32) {
    auto* data = static_cast<float*>(const_cast<void*>(view.data));
    data[0] = INFINITY;
    data[1] = -INFINITY;
    data[2] = 0x1p-140F;
    data[3] = 3.4028e38F;
    data[4] = -0.0F;
  }
  return to_vector<double>(view);
}

TEST_CASE("packing: every form and type, from tensors of the host and of the device, bit by bit") {
  if (!SpaceTraits<CudaStream>::available()) {
    std::puts("skipped: no CUDA device");
    return;
  }
  const CudaStream space;
  const StreamRef stream = stream_of(space);
  for (const bool reset_after : {true, false}) {
    const Config config{.input_size = kInputs, .hidden_size = kHidden, .reset_after = reset_after};
    for (const DType dtype : {DType::float32, DType::float64, DType::float16, DType::bfloat16}) {
      Weights weights = Weights::random(config, 11, dtype);
      const std::vector<double> w_ih = values_of(weights, true);
      const CellWeights& cell = weights.cell(0, 0);
      const std::vector<double> w_hh = to_vector<double>(cell.weight_hh);
      const std::vector<double> ih = to_vector<double>(cell.bias_ih), hh = to_vector<double>(cell.bias_hh);
      for (const bool input : {true, false}) {
        for (const Packed& p : forms(input ? kInputs : kHidden)) {
          CAPTURE(static_cast<int>(p.form.kind));
          CAPTURE(static_cast<int>(p.stored));
          CAPTURE(name_of(dtype));
          const std::shared_ptr<std::byte> memory = allocate(stream, "a test's weights", at(p.bytes()));
          const Packed folded{BiasForm{64, 192}, p.stored == Stored::float64 ? Stored::float64 : Stored::float32, 256};
          const std::shared_ptr<std::byte> bias = allocate(stream, "a test's biases", at(folded.bytes()));
          Packing packing(config);
          if (input) packing.weight_ih(0, p.form, p.stored, memory.get());
          if (!input) packing.weight_hh(0, p.form, p.stored, memory.get());
          packing.bias(0, folded.form.bias, folded.stored, bias.get());
          const std::vector<std::byte> expected =
              input ? matrix_on_host(p, w_ih, kInputs) : matrix_on_host(p, w_hh, kHidden);
          const std::vector<std::byte> expected_bias = bias_on_host(folded, ih, hh, reset_after);
          packing.run(stream, weights);
          CHECK(fetch(stream, memory.get(), p.bytes()) == expected);
          CHECK(fetch(stream, bias.get(), folded.bytes()) == expected_bias);
          // From the device, transposed.
          check(cudaMemsetAsync(memory.get(), 0xff, at(p.bytes()), stream.stream), "cudaMemsetAsync");
          const ConstTensorView& view = input ? cell.weight_ih : cell.weight_hh;
          const std::int64_t rows = view.extents[0], columns = view.extents[1];
          Tensor transposed(dtype, {columns, rows});
          for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t k = 0; k < columns; ++k) {
              const std::size_t size = size_of(dtype);
              std::memcpy(transposed.bytes() + at(k * rows + r) * size,
                          static_cast<const std::byte*>(view.data) + at(r * columns + k) * size, size);
            }
          }
          const std::shared_ptr<std::byte> there = allocate(stream, "a test's matrix", transposed.size_bytes());
          upload(stream, there.get(), transposed.bytes(), transposed.size_bytes());
          CellWeights on_device;
          ConstTensorView& other = input ? on_device.weight_ih : on_device.weight_hh;
          other = {there.get(), dtype, 2, view.extents, {1, rows, 0}};
          packing.run(stream, std::vector{on_device});
          std::vector<std::byte> found = fetch(stream, memory.get(), p.bytes());
          clear_between(p, found);
          CHECK(found == expected);
          // No biases were given: zeros.
          CHECK(fetch(stream, bias.get(), folded.bytes()) == std::vector<std::byte>(at(folded.bytes())));
        }
      }
    }
  }
}

}  // namespace
}  // namespace gru::cuda
