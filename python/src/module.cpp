// SPDX-License-Identifier: Apache-2.0
// gru._core: the library as Python sees it, without a framework's name in it. Everything that a user calls is in the
// package's Python files; here arrays become views and the GIL is released.
#include <nanobind/nanobind.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gru/error.hpp"
#include "gru/io.hpp"
#include "gru/tuning.hpp"
#include "gru/version.hpp"
#include "python/src/arrays.hpp"
#include "python/src/calls.hpp"
#include "python/src/engine.hpp"
#include "src/format.hpp"

namespace gru::python {
namespace {

using namespace nb::literals;

nb::dlpack::dtype dlpack_dtype(DType dtype) {
  const auto bits = static_cast<std::uint8_t>(8 * size_of(dtype));
  switch (dtype) {
    case DType::int32:
    case DType::int64: return {static_cast<std::uint8_t>(nb::dlpack::dtype_code::Int), bits, 1};
    case DType::bfloat16: return {static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bfloat), bits, 1};
    default: return {static_cast<std::uint8_t>(nb::dlpack::dtype_code::Float), bits, 1};
  }
}

// A host view of the library's as an array that keeps `owner` alive; read-only. NumPy's, but for bfloat16, which NumPy has
// not: that one speaks DLPack alone.
nb::object array_of(const ConstTensorView& view, nb::handle owner) {
  const std::vector<std::size_t> extents(view.extents.begin(), view.extents.begin() + view.rank);
  const auto make = [&]<class Kind>(Kind) {
    const nb::ndarray<Kind, nb::ro> array(view.data, extents.size(), extents.data(), owner, view.strides.data(),
                                          dlpack_dtype(view.dtype), nb::device::cpu::value);
    return nb::cast(array);
  };
  return view.dtype == DType::bfloat16 ? make(nb::array_api{}) : make(nb::numpy{});
}

// Weights in Python: with the arrays that the views point into.
struct PyWeights {
  std::shared_ptr<const Weights> weights;
};

PyWeights load(const std::filesystem::path& path, const std::optional<std::string>& prefix, bool reset_after) {
  nb::gil_scoped_release release;
  return {std::make_shared<const Weights>(load_weights(path, {prefix, reset_after}))};
}

PyWeights from_arrays(const nb::dict& arrays, const std::optional<std::string>& prefix, bool reset_after) {
  // The views live as long as the reader and the arrays, which it does not keep where the exchange interface reads them.
  // The last owner may let go of them on a thread without the GIL.
  struct Kept {
    ArrayReader reader;
    std::vector<nb::object> arrays;
  };
  const std::shared_ptr<Kept> kept(new Kept, [](Kept* last) {
    const nb::gil_scoped_acquire acquire;
    delete last;
  });
  NamedTensors tensors;
  for (const auto& [key, value] : arrays) {
    const auto name = nb::cast<std::string>(key);
    const Array array = kept->reader.read(value, name.c_str());
    kept->arrays.push_back(nb::borrow(value));
    if (array.place.is_cuda) {
      throw Error(fmt::format("gru.weights: {}: expected host memory, got an array on {}; copy it to the host first",
                              name, array.place.name()));
    }
    tensors.emplace_back(name, array.view);
  }
  return {std::make_shared<const Weights>(weights_from_tensors(tensors, {prefix, reset_after}, kept))};
}

nb::dict state_dict(nb::handle self) {
  const Weights& weights = *nb::cast<PyWeights&>(self).weights;
  const Config& config = weights.config();
  nb::dict result;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (std::int64_t direction = 0; direction < config.num_directions(); ++direction) {
      const CellWeights& cell = weights.cell(layer, direction);
      const auto add = [&](const char* kind, const ConstTensorView& view) {
        const std::string name = fmt::format("{}_l{}{}", kind, layer, direction == 1 ? "_reverse" : "");
        if (view.given()) result[name.c_str()] = array_of(view, self);
      };
      add("weight_ih", cell.weight_ih);
      add("weight_hh", cell.weight_hh);
      add("bias_ih", cell.bias_ih);
      add("bias_hh", cell.bias_hh);
    }
  }
  return result;
}

void execute(Engine& engine, nb::handle x, nb::handle output, nb::handle h_n, nb::handle h0, nb::handle lengths,
             std::optional<std::uintptr_t> stream) {
  ArrayReader reader;
  Call call;
  const Place& place = engine.place();
  call.x = reader.read_at(place, x, "x");
  call.h0 = reader.read_at(place, h0, "h0");
  call.lengths = reader.read_at(place, lengths, "lengths");
  call.output = reader.read_at(place, output, "output", true);
  call.h_n = reader.read_at(place, h_n, "h_n", true);
  const std::uintptr_t on = reader.stream_of(stream);
  nb::gil_scoped_release release;
  engine.execute(call, {}, on);
}

void step(Engine& engine, nb::handle x, nb::handle h_in, nb::handle h_out, std::optional<std::uintptr_t> stream) {
  ArrayReader reader;
  const TensorView from = reader.read_at(engine.place(), x, "x");
  const TensorView before = reader.read_at(engine.place(), h_in, "h_in");
  const TensorView after = reader.read_at(engine.place(), h_out, "h_out", true);
  const std::uintptr_t on = reader.stream_of(stream);
  nb::gil_scoped_release release;
  engine.step(from, before, after, on);
}

PlanOptions options_of(std::int64_t batch_size, std::int64_t seq_len, bool batch_first, const std::string& dtype,
                       const std::string& math, const std::string& backend, const std::string& tuning,
                       const std::string& tuning_cache) {
  PlanOptions options;
  options.batch_size = batch_size;
  options.seq_len = seq_len;
  options.batch_first = batch_first;
  options.dtype = parse_arithmetic_dtype(dtype);
  options.math = parse_math(math);
  options.backend = backend;
  options.tuning = parse_tuning(tuning);
  options.tuning_cache = tuning_cache;
  return options;
}

std::shared_ptr<Engine> plan(const PyWeights& weights, const std::string& device, std::int64_t batch_size,
                             std::int64_t seq_len, bool batch_first, const std::string& dtype, const std::string& math,
                             const std::string& backend, const std::string& tuning, const std::string& tuning_cache) {
  const PlanOptions options = options_of(batch_size, seq_len, batch_first, dtype, math, backend, tuning, tuning_cache);
  nb::gil_scoped_release release;
  return std::make_shared<Engine>(device, *weights.weights, options);
}

nb::dict tune(const PyWeights& weights, const std::string& device, std::int64_t batch_size, std::int64_t seq_len,
              bool batch_first, const std::string& dtype, const std::string& math, const std::string& tuning_cache) {
  const PlanOptions options = options_of(batch_size, seq_len, batch_first, dtype, math, "auto", "now", tuning_cache);
  TuningReport report;
  {
    nb::gil_scoped_release release;
    require_runtime();
    report = gru::tune(Device(device), *weights.weights, options);
  }
  nb::list tries;
  for (const TuningTry& tried : report.tries) {
    nb::dict entry;
    entry["backend"] = tried.backend;
    entry["arrangement"] = tried.arrangement;
    entry["baseline"] = tried.baseline;
    entry["seconds"] = tried.seconds;
    entry["outcome"] = tried.outcome;
    tries.append(entry);
  }
  nb::dict result;
  result["device"] = report.device;
  result["shape"] = report.shape;
  result["backend"] = report.backend;
  result["arrangement"] = report.arrangement;
  result["seconds"] = report.seconds;
  result["estimated"] = report.estimated;
  result["file"] = report.file;
  result["tries"] = tries;
  return result;
}

nb::list list_devices() {
  std::vector<Device> found;
  {
    nb::gil_scoped_release release;
    found = devices();
  }
  nb::list result;
  for (const Device& device : found) {
    nb::dict entry;
    entry["name"] = device.name();
    entry["description"] = device.description();
    entry["memory_bytes"] = device.memory_bytes();
    entry["concurrency"] = device.info().concurrency;
    entry["compute_capability"] = device.info().compute_capability;
    entry["sm_count"] = device.info().sm_count;
    std::vector<std::string> backends;
    for (const SpaceReport& space : device.spaces()) {
      backends.insert(backends.end(), space.backends.begin(), space.backends.end());
    }
    entry["backends"] = backends;
    result.append(entry);
  }
  return result;
}

void describe_weights(nb::module_& module) {
  nb::class_<Config>(module, "Config", "What the weights fix, in torch.nn.GRU's words.")
      .def_ro("input_size", &Config::input_size, "I: features of x")
      .def_ro("hidden_size", &Config::hidden_size, "H: features of the state")
      .def_ro("num_layers", &Config::num_layers, "L")
      .def_ro("bias", &Config::bias, "b_ih and b_hh are added")
      .def_ro("bidirectional", &Config::bidirectional, "D = 2")
      .def_ro("reset_after", &Config::reset_after, "r is multiplied after W_hn h + b_hn, as torch.nn.GRU does")
      .def_prop_ro("num_directions", &Config::num_directions, "D: 1 or 2")
      .def("__repr__", [](const Config& config) { return "gru.Config(" + gru::describe(config) + ")"; });

  nb::class_<PyWeights>(module, "Weights", "The weights of a whole GRU, in host memory.")
      .def_prop_ro("config", [](const PyWeights& self) { return self.weights->config(); })
      .def(
          "state_dict", [](nb::handle self) { return state_dict(self); },
          "The arrays under torch.nn.GRU's names, read-only and not copied.")
      .def("__repr__",
           [](const PyWeights& self) { return "gru.Weights(" + gru::describe(self.weights->config()) + ")"; });
  module.def("load_weights", &load, "path"_a, "prefix"_a, "reset_after"_a);
  module.def("weights_from_arrays", &from_arrays, "arrays"_a, "prefix"_a, "reset_after"_a);
}

void describe_plan(nb::module_& module) {
  nb::class_<Engine>(module, "Plan")
      .def_static("make", &plan, "weights"_a, "device"_a, "batch_size"_a, "seq_len"_a, "batch_first"_a, "dtype"_a,
                  "math"_a, "backend"_a, "tuning"_a, "tuning_cache"_a)
      .def("execute", &execute, "x"_a, "output"_a.none(), "h_n"_a.none(), "h0"_a.none() = nb::none(),
           "lengths"_a.none() = nb::none(), "stream"_a.none() = nb::none())
      .def("step", &step, "x"_a, "h_in"_a, "h_out"_a, "stream"_a.none() = nb::none())
      .def("wait", &Engine::wait, nb::call_guard<nb::gil_scoped_release>())
      .def_prop_ro("device", [](const Engine& self) { return self.place().name(); })
      .def_prop_ro("config", [](const Engine& self) { return self.problem().config; })
      .def_prop_ro("batch_size", [](const Engine& self) { return self.problem().options.batch_size; })
      .def_prop_ro("seq_len", [](const Engine& self) { return self.problem().options.seq_len; })
      .def_prop_ro("batch_first", [](const Engine& self) { return self.problem().options.batch_first; })
      .def_prop_ro("dtype", [](const Engine& self) { return std::string(name_of(self.problem().options.dtype)); })
      .def_prop_ro("math", [](const Engine& self) { return std::string(name_of(self.problem().options.math)); })
      .def_prop_ro("backend", &Engine::backend)
      .def_prop_ro("why", &Engine::why)
      .def_prop_ro("workspace_bytes", &Engine::workspace_bytes);
}

}  // namespace
}  // namespace gru::python

NB_MODULE(_core, module) {
  using namespace gru::python;
  const nb::exception<gru::Error> error(module, "Error", PyExc_ValueError);
  describe_weights(module);
  describe_plan(module);
  describe_calls(module);
  describe_model(module);
  describe_xla_calls(module);
  module.def("devices", &list_devices);
  module.def("tune", &tune, "weights"_a, "device"_a, "batch_size"_a, "seq_len"_a, "batch_first"_a, "dtype"_a, "math"_a,
             "tuning_cache"_a);
  module.def("shut_down", &gru::python::shut_down, nb::call_guard<nb::gil_scoped_release>());
  module.attr("version") = std::string(gru::kVersion);
  module.attr("commit") = std::string(gru::build_commit());
  module.attr("cuda") = gru::kCudaEnabled;
}
