// SPDX-License-Identifier: Apache-2.0
#include "python/src/calls.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <array>
#include <string>
#include <tuple>
#include <vector>

#include "gru/error.hpp"
#include "python/src/arrays.hpp"
#include "python/src/plan_cache.hpp"
#include "src/format.hpp"

namespace gru::python {
namespace {

using namespace nb::literals;

// num_layers, bias, bidirectional, batch_first, dropout, math, training: an operator's last arguments.
using Settings = std::tuple<std::int64_t, bool, bool, bool, double, std::string, std::string>;

PlanKey key_of(const Array& x, const ConstTensorView& weight_hh, const Settings& settings) {
  if (x.view.rank != 3 || weight_hh.rank != 2) {
    throw Error(fmt::format("gru.torch: expected x of rank 3 and weights of rank 2, got {} and {}", x.view.rank,
                            weight_hh.rank));
  }
  const auto& [num_layers, bias, bidirectional, batch_first, dropout, math, training] = settings;
  PlanKey key;
  key.place = x.place;
  key.config.input_size = x.view.extents[2];
  key.config.hidden_size = weight_hh.extents[1];
  key.config.num_layers = num_layers;
  key.config.bias = bias;
  key.config.bidirectional = bidirectional;
  key.seq_len = std::max<std::int64_t>(x.view.extents[batch_first ? 1 : 0], 1);
  key.batch_size = std::max<std::int64_t>(x.view.extents[batch_first ? 0 : 1], 1);
  key.batch_first = batch_first;
  key.dtype = x.view.dtype == DType::float64 ? DType::float64 : DType::float32;
  key.math = parse_math(math);
  key.training = parse_training(training);
  key.dropout = dropout;
  return key;
}

// Parameters in nn.GRU's flat order as cells; `Cell` is CellWeights or CellGradients.
template <class Cell>
std::vector<Cell> read_cells(const Place& place, ArrayReader& reader, const nb::list& flat, const Settings& settings,
                             const char* name, bool writable) {
  const std::size_t each = std::get<1>(settings) ? 4 : 2;
  const auto count = static_cast<std::size_t>(std::get<0>(settings) * (std::get<2>(settings) ? 2 : 1));
  if (count == 0 || flat.size() != each * count) {
    throw Error(fmt::format("gru.torch: {}: expected {} tensors for {} layers and directions, got {}", name,
                            each * count, count, flat.size()));
  }
  std::vector<Cell> cells(count);
  for (std::size_t i = 0; i < each * count; ++i) {
    Cell& cell = cells[i / each];
    const std::array places{&cell.weight_ih, &cell.weight_hh, &cell.bias_ih, &cell.bias_hh};
    *places[i % each] = reader.read_at(place, flat[i], name, writable);
  }
  return cells;
}

Reserve reserve_of(const TensorView& view) {
  if (!view.given()) return {};
  return {view.data, size_bytes_of(view)};
}

void forward(nb::handle x, nb::handle h0, nb::handle lengths, const nb::list& weights, nb::handle output,
             nb::handle h_n, nb::handle reserve, std::uint64_t seed, std::uint64_t offset, const Settings& settings) {
  ArrayReader reader;
  const Array input = reader.read(x, "x");
  const Place place = input.place;
  const auto cells = read_cells<CellWeights>(place, reader, weights, settings, "weights", false);
  Call call;
  call.x = input.view;
  call.h0 = reader.read_at(place, h0, "h0");
  call.lengths = reader.read_at(place, lengths, "lengths");
  call.output = reader.read_at(place, output, "output", true);
  call.h_n = reader.read_at(place, h_n, "h_n", true);
  call.reserve = reserve_of(reader.read_at(place, reserve, "reserve", true));
  call.dropout_seed = seed;
  call.dropout_offset = offset;
  const PlanKey key = key_of(input, cells[0].weight_hh, settings);
  const std::uintptr_t stream = reader.stream_of();
  nb::gil_scoped_release release;
  PlanCache::instance().with(key, stream, [&](Engine& engine) { engine.execute(call, cells, stream); });
}

void backward(nb::handle x, nb::handle h0, nb::handle lengths, const nb::list& weights, nb::handle output,
              nb::handle reserve, nb::handle grad_output, nb::handle grad_h_n, nb::handle grad_x, nb::handle grad_h0,
              const nb::list& grad_weights, std::uint64_t seed, std::uint64_t offset, const Settings& settings) {
  ArrayReader reader;
  const Array input = reader.read(x, "x");
  const Place place = input.place;
  const auto cells = read_cells<CellWeights>(place, reader, weights, settings, "weights", false);
  const auto gradients = read_cells<CellGradients>(place, reader, grad_weights, settings, "grad_weights", true);
  BackwardCall call;
  call.x = input.view;
  call.h0 = reader.read_at(place, h0, "h0");
  call.lengths = reader.read_at(place, lengths, "lengths");
  call.output = reader.read_at(place, output, "output");
  call.reserve = reserve_of(reader.read_at(place, reserve, "reserve", true));
  call.grad_output = reader.read_at(place, grad_output, "grad_output");
  call.grad_h_n = reader.read_at(place, grad_h_n, "grad_h_n");
  call.grad_x = reader.read_at(place, grad_x, "grad_x", true);
  call.grad_h0 = reader.read_at(place, grad_h0, "grad_h0", true);
  call.cells = gradients;
  call.dropout_seed = seed;
  call.dropout_offset = offset;
  const PlanKey key = key_of(input, cells[0].weight_hh, settings);
  const std::uintptr_t stream = reader.stream_of();
  nb::gil_scoped_release release;
  PlanCache::instance().with(key, stream, [&](Engine& engine) { engine.backward(call, cells, stream); });
}

// What a forward on these keeps for its backward.
std::size_t reserve_bytes(nb::handle x, const nb::list& weights, const Settings& settings) {
  ArrayReader reader;
  const Array input = reader.read(x, "x");
  const auto cells = read_cells<CellWeights>(input.place, reader, weights, settings, "weights", false);
  const PlanKey key = key_of(input, cells[0].weight_hh, settings);
  std::size_t bytes = 0;
  const std::uintptr_t stream = reader.stream_of();
  nb::gil_scoped_release release;
  PlanCache::instance().with(key, stream, [&](const Engine& engine) { bytes = engine.reserve_bytes(); });
  return bytes;
}

nb::dict plan_cache_info() {
  const PlanCache::Info info = PlanCache::instance().info();
  nb::dict result;
  result["plans"] = info.kept;
  result["bound"] = info.bound;
  result["made"] = info.made;
  result["captured"] = info.captured;
  return result;
}

}  // namespace

void describe_calls(nb::module_& module) {
  module.def("forward", &forward, "x"_a, "h0"_a.none(), "lengths"_a.none(), "weights"_a, "output"_a, "h_n"_a,
             "reserve"_a.none(), "seed"_a, "offset"_a, "settings"_a);
  module.def("backward", &backward, "x"_a, "h0"_a.none(), "lengths"_a.none(), "weights"_a, "output"_a, "reserve"_a,
             "grad_output"_a.none(), "grad_h_n"_a.none(), "grad_x"_a.none(), "grad_h0"_a.none(), "grad_weights"_a,
             "seed"_a, "offset"_a, "settings"_a);
  module.def("reserve_bytes", &reserve_bytes, "x"_a, "weights"_a, "settings"_a);
  module.def("plan_cache_info", &plan_cache_info);
  module.def("set_plan_cache_size", [](std::size_t plans) {
    nb::gil_scoped_release release;
    PlanCache::instance().set_bound(plans);
  });
  module.def("clear_plans", [](bool captured) {
    nb::gil_scoped_release release;
    PlanCache::instance().clear(captured);
  });
}

}  // namespace gru::python
