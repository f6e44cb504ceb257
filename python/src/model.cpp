// SPDX-License-Identifier: Apache-2.0
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/src/arrays.hpp"
#include "python/src/calls.hpp"
#include "python/src/capture.hpp"
#include "python/src/plan_cache.hpp"

namespace gru::python {
namespace {

using namespace nb::literals;

// Throws what Python has raised.
nb::object made(PyObject* object) {
  if (object == nullptr) throw nb::python_error();
  return nb::steal(object);
}

bool is_true(nb::handle object) {
  const int truth = PyObject_IsTrue(object.ptr());
  if (truth < 0) throw nb::python_error();
  return truth != 0;
}

// What a framework tells of itself: who may look on, and how its tensors are made. All of it is called with the GIL.
class Framework {
 public:
  // types: of plain tensors. watchers: functions without arguments; one that gives something true wants to see every
  // operation. levels: an object and the name of a number of its, at least 0 where somebody wants to see it. None of
  // these may know this object, as Python's collector does not see what it holds. gradients: whether operations are
  // recorded where a tensor's requires_grad says so. empty_host, empty_cuda: (extents, strides, dtype) to a new tensor,
  // the latter on the current device; None: x.new_empty does it.
  Framework(std::vector<nb::object> types, std::vector<nb::object> watchers, std::pair<nb::object, nb::object> levels,
            nb::object gradients, nb::object empty_host, nb::object empty_cuda)
      : types_(std::move(types)),
        watchers_(std::move(watchers)),
        levels_(std::move(levels)),
        gradients_(std::move(gradients)),
        empty_host_(std::move(empty_host)),
        empty_cuda_(std::move(empty_cuda)) {}

  bool is_plain(nb::handle object) const {
    const auto* type = reinterpret_cast<PyObject*>(Py_TYPE(object.ptr()));
    return std::ranges::any_of(types_, [type](const nb::object& plain) { return plain.ptr() == type; });
  }
  // Nobody looks on.
  bool is_quiet() const {
    if (PyLong_AsLong(made(PyObject_GetAttr(levels_.first.ptr(), levels_.second.ptr())).ptr()) >= 0) return false;
    return std::ranges::none_of(
        watchers_, [](const nb::object& watcher) { return is_true(made(PyObject_CallNoArgs(watcher.ptr()))); });
  }
  bool records() const { return is_true(made(PyObject_CallNoArgs(gradients_.ptr()))); }

  // A row-major tensor like x, with other extents.
  nb::object empty(nb::handle x, const Array& of, int rank, const Dims& extents) const {
    const bool there = !of.place.is_cuda || current_device() == of.place.device;
    const nb::object& make = of.place.is_cuda ? empty_cuda_ : empty_host_;
    const nb::object sizes = tuple_of(rank, extents);
    if (!there || make.is_none())
      return made(PyObject_CallMethodObjArgs(x.ptr(), new_empty_.ptr(), sizes.ptr(), nullptr));
    const nb::object strides = tuple_of(rank, contiguous_strides(rank, extents));
    const nb::object dtype = made(PyObject_GetAttr(x.ptr(), dtype_.ptr()));
    PyObject* const arguments[] = {sizes.ptr(), strides.ptr(), dtype.ptr()};
    return made(PyObject_Vectorcall(make.ptr(), arguments, 3, nullptr));
  }

 private:
  static nb::object tuple_of(int rank, const Dims& numbers) {
    nb::object tuple = made(PyTuple_New(rank));
    for (int i = 0; i < rank; ++i) {
      PyTuple_SetItem(tuple.ptr(), i, made(PyLong_FromLongLong(numbers[static_cast<std::size_t>(i)])).release().ptr());
    }
    return tuple;
  }

  std::vector<nb::object> types_, watchers_;
  std::pair<nb::object, nb::object> levels_;
  nb::object gradients_, empty_host_, empty_cuda_;
  nb::object new_empty_ = nb::steal(PyUnicode_InternFromString("new_empty"));
  nb::object dtype_ = nb::steal(PyUnicode_InternFromString("dtype"));
};

// What a module fixes, read once: a call then looks at nothing but its tensors. A call that is out of the ordinary in
// any way is left to the operators, which see it traced, differentiated or transformed, and say in torch's words what is
// wrong with it.
class Model {
 public:
  Model(const Framework& framework, std::vector<nb::object> names, std::int64_t num_layers, bool bias,
        bool bidirectional, bool batch_first, const std::string& math)
      : framework_(framework), names_(std::move(names)) {
    key_.config.num_layers = num_layers;
    key_.config.bias = bias;
    key_.config.bidirectional = bidirectional;
    key_.batch_first = batch_first;
    key_.math = parse_math(math);
  }

  // output and h_n of x (T, B, I), or (B, T, I) with batch_first, and h0 (L*D, B, H) or None; None: left undone.
  nb::object forward(nb::handle module, nb::handle x, nb::handle h0) const {
    Tensors t;
    if (!read(t, module, x, h0, 3)) return nb::none();
    const PlanKey& key = t.key;
    const std::int64_t hidden = key.config.hidden_size, directions = key.config.num_directions();
    const Dims& from = t.input.view.extents;
    const nb::object output = framework_.empty(x, t.input, 3, {from[0], from[1], hidden * directions});
    const nb::object h_n =
        framework_.empty(x, t.input, 3, {key.config.num_layers * directions, key.batch_size, hidden});
    t.call.output = t.reader.read_at(key.place, output, "output", true);
    t.call.h_n = t.reader.read_at(key.place, h_n, "h_n", true);
    run(t);
    return nb::make_tuple(output, h_n);
  }

  // The next state (B, H) of one layer from x (B, I) and h (B, H) or None; None: left undone.
  nb::object step(nb::handle module, nb::handle x, nb::handle h) const {
    Tensors t;
    if (!read(t, module, x, h, 2)) return nb::none();
    nb::object next = framework_.empty(x, t.input, 2, {t.key.batch_size, t.key.config.hidden_size, 0});
    t.call.h_n = as_sequence(t.reader.read_at(t.key.place, next, "next", true));
    run(t);
    return next;
  }

 private:
  struct Tensors {
    ArrayReader reader;
    Array input;
    PlanKey key;
    Call call;
    std::vector<nb::object> parameters;  // another thread may put others into the module
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

  bool read(Tensors& t, nb::handle module, nb::handle x, nb::handle h0, int rank) const {
    if (!framework_.is_plain(x) || !(h0.is_none() || framework_.is_plain(h0)) || !framework_.is_quiet()) return false;
    if (is_negated(x) || (!h0.is_none() && is_negated(h0)) || !take_parameters(t, module)) return false;
    if (framework_.records() && wants_gradients(t, x, h0)) return false;
    try {
      t.input = t.reader.read(x, "input");
      t.reader.keep_stream();
      return t.input.view.rank == rank && read_cells(t) && read_call(t, h0, rank);
    } catch (const std::exception&) {
      return false;  // such as tensors without memory, or on several devices
    }
  }

  // Whether a bit of the tensor's says that the numbers in its memory are to be negated, as of conj().imag.
  bool is_negated(nb::handle tensor) const {
    return is_true(made(PyObject_CallMethodNoArgs(tensor.ptr(), is_neg_.ptr())));
  }

  // By name and anew: parametrizations, functional_call and FSDP put other tensors there.
  bool take_parameters(Tensors& t, nb::handle module) const {
    const nb::object all = made(PyObject_GetAttr(module.ptr(), parameters_.ptr()));
    if (PyDict_Check(all.ptr()) == 0) return false;
    t.parameters.reserve(names_.size());
    for (const nb::object& name : names_) {
      nb::object found = nb::borrow(PyDict_GetItemWithError(all.ptr(), name.ptr()));
      if (!found.is_valid()) {
        if (PyErr_Occurred() != nullptr) throw nb::python_error();
        found = made(PyObject_GetAttr(module.ptr(), name.ptr()));  // a parametrization's
      }
      if (!framework_.is_plain(found) || is_negated(found)) return false;
      t.parameters.push_back(std::move(found));
    }
    return true;
  }

  bool wants_gradients(const Tensors& t, nb::handle x, nb::handle h0) const {
    const auto wants = [this](nb::handle tensor) {
      return !tensor.is_none() && is_true(made(PyObject_GetAttr(tensor.ptr(), requires_grad_.ptr())));
    };
    return wants(x) || wants(h0) || std::ranges::any_of(t.parameters, wants);
  }

  bool read_cells(Tensors& t) const {
    t.key = key_;
    PlanKey& key = t.key;
    key.place = t.input.place;
    key.dtype = t.input.view.dtype;
    // Backends of CUDA take parameters of 16 bits too.
    if (key.dtype == DType::int32 || key.dtype == DType::int64 || (has_16_bits(key.dtype) && !key.place.is_cuda)) {
      return false;
    }
    const std::size_t each = key.config.bias ? 4 : 2;
    t.cells.resize(names_.size() / each);
    for (std::size_t i = 0; i < names_.size(); ++i) {
      CellWeights& cell = t.cells[i / each];
      const std::array places{&cell.weight_ih, &cell.weight_hh, &cell.bias_ih, &cell.bias_hh};
      ConstTensorView& view = *places[i % each];
      view = t.reader.read_at(key.place, t.parameters[i], "weights");
      if (view.dtype != key.dtype || view.rank != (i % each < 2 ? 2 : 1)) return false;
    }
    return true;
  }

  static bool read_call(Tensors& t, nb::handle h0, int rank) {
    PlanKey& key = t.key;
    Config& config = key.config;
    t.call.x = as_sequence(t.input.view);
    const TensorView before = t.reader.read_at(key.place, h0, "hx");
    if (before.given() && before.rank != rank) return false;
    t.call.h0 = as_sequence(before);
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

  static void run(const Tensors& t) {
    const std::uintptr_t stream = t.reader.stream_of();
    const nb::gil_scoped_release release;
    PlanCache::instance().with(t.key, stream, [&](Engine& engine) { engine.execute(t.call, t.cells, stream); });
  }

  const Framework& framework_;
  std::vector<nb::object> names_;
  PlanKey key_;
  nb::object parameters_ = nb::steal(PyUnicode_InternFromString("_parameters"));
  nb::object is_neg_ = nb::steal(PyUnicode_InternFromString("is_neg"));
  nb::object requires_grad_ = nb::steal(PyUnicode_InternFromString("requires_grad"));
};

}  // namespace

void describe_model(nb::module_& module) {
  nb::class_<Framework>(module, "Framework")
      .def(nb::init<std::vector<nb::object>, std::vector<nb::object>, std::pair<nb::object, nb::object>, nb::object,
                    nb::object, nb::object>(),
           "types"_a, "watchers"_a, "levels"_a, "gradients"_a, "empty_host"_a.none(), "empty_cuda"_a.none());
  nb::class_<Model>(module, "Model")
      .def(nb::init<const Framework&, std::vector<nb::object>, std::int64_t, bool, bool, bool, const std::string&>(),
           "framework"_a, "names"_a, "num_layers"_a, "bias"_a, "bidirectional"_a, "batch_first"_a, "math"_a,
           nb::keep_alive<1, 2>())
      .def("forward", &Model::forward, "module"_a, "x"_a.none(), "h0"_a.none())
      .def("step", &Model::step, "module"_a, "x"_a.none(), "h"_a.none());
}

}  // namespace gru::python
