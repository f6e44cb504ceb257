// SPDX-License-Identifier: Apache-2.0
#include <nanobind/stl/string.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "python/src/arrays.hpp"
#include "python/src/calls.hpp"
#include "python/src/plan_cache.hpp"

namespace gru::python {
namespace {

using namespace nb::literals;

// What a module fixes, read once: a call then makes no Python object and looks at nothing but its tensors. A call that
// is out of the ordinary in any way is left to the operators, which say in torch's words what is wrong with it.
class Model {
 public:
  Model(std::int64_t num_layers, bool bias, bool bidirectional, bool batch_first, const std::string& math) {
    key_.config.num_layers = num_layers;
    key_.config.bias = bias;
    key_.config.bidirectional = bidirectional;
    key_.batch_first = batch_first;
    key_.math = parse_math(math);
  }

  // x (T, B, I), or (B, T, I) with batch_first; h0 (L*D, B, H) or None; output and h_n as x and h0. False: left undone.
  bool forward(nb::handle x, nb::handle h0, const nb::list& weights, nb::handle output, nb::handle h_n) const {
    Tensors t;
    if (!read(t, x, h0, weights, 3)) return false;
    t.call.output = t.reader.read_at(t.key.place, output, "output", true);
    t.call.h_n = t.reader.read_at(t.key.place, h_n, "h_n", true);
    return run(t);
  }

  // One layer: x (B, I), h (B, H) or None, and the next state (B, H).
  bool step(nb::handle x, nb::handle h, const nb::list& weights, nb::handle next) const {
    Tensors t;
    if (!read(t, x, h, weights, 2)) return false;
    t.call.h_n = as_sequence(t.reader.read_at(t.key.place, next, "next", true));
    return run(t);
  }

 private:
  struct Tensors {
    ArrayReader reader;
    PlanKey key;
    Call call;
    std::vector<CellWeights> cells;
  };

  // (B, I) as (1, B, I).
  template <class View>
  static View as_sequence(View view) {
    if (view.rank != 2) return view;
    view.rank = 3;
    view.extents = {1, view.extents[0], view.extents[1]};
    view.strides = {0, view.strides[0], view.strides[1]};
    return view;
  }

  bool read(Tensors& t, nb::handle x, nb::handle h0, const nb::list& weights, int rank) const {
    const Array input = t.reader.read(x, "input");
    if (input.view.rank != rank) return false;
    t.key = key_;
    PlanKey& key = t.key;
    Config& config = key.config;
    key.place = input.place;
    key.dtype = input.view.dtype;
    if (key.dtype != DType::float32 && key.dtype != DType::float64) return false;
    t.call.x = as_sequence(input.view);
    const TensorView before = t.reader.read_at(key.place, h0, "hx");
    if (before.given() && before.rank != rank) return false;
    t.call.h0 = as_sequence(before);
    const std::size_t each = config.bias ? 4 : 2;
    if (weights.size() != each * static_cast<std::size_t>(config.num_layers * config.num_directions())) return false;
    t.cells.resize(weights.size() / each);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      CellWeights& cell = t.cells[i / each];
      const std::array places{&cell.weight_ih, &cell.weight_hh, &cell.bias_ih, &cell.bias_hh};
      ConstTensorView& view = *places[i % each];
      view = t.reader.read_at(key.place, weights[i], "weights");
      if (view.dtype != key.dtype || view.rank != (i % each < 2 ? 2 : 1)) return false;
    }
    const ConstTensorView& own = t.call.x;
    if (own.size() == 0) return false;
    config.input_size = own.extents[2];
    config.hidden_size = t.cells[0].weight_hh.extents[1];
    key.seq_len = own.extents[key.batch_first ? 1 : 0];
    key.batch_size = own.extents[key.batch_first ? 0 : 1];
    if (config.input_size != t.cells[0].weight_ih.extents[1]) return false;
    const Dims states{config.num_layers * config.num_directions(), key.batch_size, config.hidden_size};
    return !t.call.h0.given() || (t.call.h0.dtype == key.dtype && t.call.h0.rank == 3 && t.call.h0.extents == states);
  }

  static bool run(const Tensors& t) {
    const std::uintptr_t stream = t.reader.stream_of();
    const nb::gil_scoped_release release;
    PlanCache::instance().with(t.key, stream, [&](Engine& engine) { engine.execute(t.call, t.cells, stream); });
    return true;
  }

  PlanKey key_;
};

}  // namespace

void describe_model(nb::module_& module) {
  nb::class_<Model>(module, "Model")
      .def(nb::init<std::int64_t, bool, bool, bool, const std::string&>(), "num_layers"_a, "bias"_a, "bidirectional"_a,
           "batch_first"_a, "math"_a)
      .def("forward", &Model::forward, "x"_a, "h0"_a.none(), "weights"_a, "output"_a, "h_n"_a)
      .def("step", &Model::step, "x"_a, "h"_a.none(), "weights"_a, "next"_a);
}

}  // namespace gru::python
