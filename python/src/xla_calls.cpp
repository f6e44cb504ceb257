// SPDX-License-Identifier: Apache-2.0
// gru.jax' two handlers. XLA calls them from its own threads, without the GIL, on a stream of its own on a GPU.
//
//   forward   x, weights..., [h0], [lengths]                          -> output, h_n, [reserve]
//   backward  x, weights..., [h0], [lengths], output, reserve, grad_output, grad_h_n
//                                                                     -> grad_x, grad_h0, grad_weights...
//
// All row-major. x (T, B, I), or (B, T, I) with batch_first; weights in nn.GRU's flat order; the reserve is a vector.
// Attributes: num_layers, bias, bidirectional, batch_first, has_h0, has_lengths (int64), math, training (text).

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gru/error.hpp"
#include "python/src/calls.hpp"
#include "python/src/plan_cache.hpp"
#include "python/src/xla_call.hpp"
#include "src/format.hpp"

namespace gru::python {
namespace {

// Takes the buffers of a call in order, and its attributes by name.
class Reader {
 public:
  explicit Reader(const xla::Frame& frame) : frame_(frame) {}

  TensorView argument() { return take(frame_.arguments, arguments_, "argument"); }
  TensorView argument_if(bool given) { return given ? argument() : TensorView{}; }
  TensorView result() { return take(frame_.results, results_, "result"); }
  std::size_t results_left() const { return static_cast<std::size_t>(frame_.results.count) - results_; }

  std::int64_t number(std::string_view name) const {
    const auto& scalar = *static_cast<const xla::Scalar*>(attribute(name, xla::kScalar));
    if (scalar.dtype != xla::kInt64) throw Error(fmt::format("gru.jax: attribute {}: expected an int64", name));
    std::int64_t value = 0;
    std::memcpy(&value, scalar.value, sizeof value);
    return value;
  }
  std::string text(std::string_view name) const {
    const auto& value = *static_cast<const xla::Text*>(attribute(name, xla::kText));
    return {value.data, value.size};
  }

 private:
  const void* attribute(std::string_view name, std::int32_t kind) const {
    const xla::Attributes& all = frame_.attributes;
    for (std::int64_t i = 0; i < all.count; ++i) {
      if (std::string_view(all.names[i]->data, all.names[i]->size) == name && all.kinds[i] == kind) return all.items[i];
    }
    throw Error(fmt::format("gru.jax: the call has no attribute {}; was it made by another version of gru?", name));
  }

  static TensorView take(const xla::Values& values, std::size_t& next, const char* what) {
    if (static_cast<std::int64_t>(next) >= values.count || values.kinds[next] != xla::kBuffer) {
      throw Error(fmt::format("gru.jax: {} {} is missing or no array", what, next));
    }
    const auto& buffer = *static_cast<const xla::Buffer*>(values.items[next++]);
    if (buffer.rank < 1 || buffer.rank > 3) {
      throw Error(fmt::format("gru.jax: {} {}: expected rank 1 to 3, got {}", what, next - 1, buffer.rank));
    }
    TensorView view;
    view.data = buffer.data;
    view.rank = static_cast<int>(buffer.rank);
    std::copy_n(buffer.extents, buffer.rank, view.extents.begin());
    view.strides = contiguous_strides(view.rank, view.extents);
    switch (buffer.dtype) {
      case xla::kFloat32: view.dtype = DType::float32; break;
      case xla::kFloat64: view.dtype = DType::float64; break;
      case xla::kInt32: view.dtype = DType::int32; break;
      case xla::kInt64: view.dtype = DType::int64; break;
      default:
        throw Error(fmt::format("gru.jax: {} {}: expected float32, float64, int32 or int64, got XLA's type {}", what,
                                next - 1, buffer.dtype));
    }
    return view;
  }

  const xla::Frame& frame_;
  std::size_t arguments_ = 0;
  std::size_t results_ = 0;
};

// What forward and backward have in common: x, the weights, h0, lengths, and which plan.
struct Common {
  Common(Reader& reader, const Place& place) {
    key.place = place;
    key.config.num_layers = reader.number("num_layers");
    key.config.bias = reader.number("bias") != 0;
    key.config.bidirectional = reader.number("bidirectional") != 0;
    key.batch_first = reader.number("batch_first") != 0;
    key.math = parse_math(reader.text("math"));
    key.training = parse_training(reader.text("training"));
    x = reader.argument();
    cells.resize(static_cast<std::size_t>(key.config.num_layers * key.config.num_directions()));
    for (CellWeights& cell : cells) {
      cell.weight_ih = reader.argument();
      cell.weight_hh = reader.argument();
      cell.bias_ih = reader.argument_if(key.config.bias);
      cell.bias_hh = reader.argument_if(key.config.bias);
    }
    h0 = reader.argument_if(reader.number("has_h0") != 0);
    lengths = reader.argument_if(reader.number("has_lengths") != 0);
    if (x.rank != 3 || cells.empty() || cells[0].weight_hh.rank != 2) {
      throw Error("gru.jax: expected x of rank 3 and weights of rank 2");
    }
    key.config.input_size = x.extents[2];
    key.config.hidden_size = cells[0].weight_hh.extents[1];
    key.seq_len = std::max<std::int64_t>(x.extents[key.batch_first ? 1 : 0], 1);
    key.batch_size = std::max<std::int64_t>(x.extents[key.batch_first ? 0 : 1], 1);
    key.dtype = x.dtype == DType::float64 ? DType::float64 : DType::float32;
  }

  PlanKey key;
  TensorView x, h0, lengths;
  std::vector<CellWeights> cells;
};

Reserve reserve_of(const TensorView& view) { return {view.data, size_bytes_of(view)}; }

void forward(Reader& reader, const Place& place, std::uintptr_t stream) {
  const Common common(reader, place);
  Call call;
  call.x = common.x;
  call.h0 = common.h0;
  call.lengths = common.lengths;
  call.output = reader.result();
  call.h_n = reader.result();
  if (common.key.training != Training::none) call.reserve = reserve_of(reader.result());
  PlanCache::instance().with(common.key, stream, [&](Engine& engine) { engine.execute(call, common.cells, stream); });
}

void backward(Reader& reader, const Place& place, std::uintptr_t stream) {
  const Common common(reader, place);
  BackwardCall call;
  call.x = common.x;
  call.h0 = common.h0;
  call.lengths = common.lengths;
  call.output = reader.argument();
  call.reserve = reserve_of(reader.argument());
  call.grad_output = reader.argument();
  call.grad_h_n = reader.argument();
  call.grad_x = reader.result();
  call.grad_h0 = reader.result();
  std::vector<CellGradients> gradients(common.cells.size());
  for (CellGradients& cell : gradients) {
    cell.weight_ih = reader.result();
    cell.weight_hh = reader.result();
    if (common.key.config.bias) {
      cell.bias_ih = reader.result();
      cell.bias_hh = reader.result();
    }
  }
  call.cells = gradients;
  PlanCache::instance().with(common.key, stream, [&](Engine& engine) { engine.backward(call, common.cells, stream); });
}

xla::Error* failure(const xla::Api& api, const char* message) {
  xla::ErrorArguments arguments{sizeof(xla::ErrorArguments), nullptr, message, xla::kInvalidArgument};
  return api.make_error(&arguments);
}

// XLA's answer to a question at registration: which version the handler speaks.
void answer(const xla::Api& api, xla::Extension& extension) {
  auto& metadata = *reinterpret_cast<xla::MetadataExtension&>(extension).metadata;
  metadata.version = {sizeof(xla::Version), nullptr, xla::kMajorVersion,
                      std::min(api.version.minor, xla::kNewestMinorVersion)};
  metadata.traits = 0;
  if (metadata.size >= sizeof(xla::Metadata)) metadata.state_type = 0;  // older versions have no such field
}

template <void (*run)(Reader&, const Place&, std::uintptr_t), bool on_cuda>
xla::Error* handler(xla::Frame* frame) {
  const xla::Api& api = *frame->api;
  if (frame->extensions != nullptr && frame->extensions->kind == xla::kMetadataKind) {
    answer(api, *frame->extensions);
    return nullptr;
  }
  if (api.version.major != xla::kMajorVersion || api.version.minor < xla::kOldestMinorVersion ||
      api.size < sizeof(xla::Api) || frame->size < sizeof(xla::Frame)) {
    return failure(api,
                   "gru.jax: this version of XLA's interface for foreign calls is not known; update gru or jaxlib");
  }
  if (frame->stage != xla::Stage::execute) return failure(api, "gru.jax: expected to be called to execute");
  try {
    Place place;
    std::uintptr_t stream = 0;
    if constexpr (on_cuda) {
      xla::StreamArguments on{sizeof(xla::StreamArguments), nullptr, frame->context, nullptr};
      if (xla::Error* error = api.stream(&on)) return error;
      xla::DeviceArguments at{sizeof(xla::DeviceArguments), nullptr, frame->context, 0};
      if (xla::Error* error = api.device(&at)) return error;
      place = {true, at.device};
      stream = reinterpret_cast<std::uintptr_t>(on.stream);
    }
    Reader reader(*frame);
    run(reader, place, stream);
    return nullptr;
  } catch (const std::exception& error) {
    return failure(api, error.what());
  }
}

nanobind::dict handlers() {
  nanobind::dict result;
  const auto add = [&](const char* name, xla::Error* (*handler)(xla::Frame*)) {
    result[name] = nanobind::capsule(reinterpret_cast<const void*>(handler));
  };
  add("forward_cpu", &handler<&forward, false>);
  add("backward_cpu", &handler<&backward, false>);
  add("forward_cuda", &handler<&forward, true>);
  add("backward_cuda", &handler<&backward, true>);
  return result;
}

}  // namespace

void describe_xla_calls(nanobind::module_& module) { module.def("xla_calls", &handlers); }

}  // namespace gru::python
