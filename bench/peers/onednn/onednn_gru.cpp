// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/onednn/onednn_gru.hpp"

#include <array>
#include <utility>

#include "gru/error.hpp"

namespace gru::bench {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

/// oneDNN's gates u, r, o as rows of torch's r, z, n.
constexpr std::array<std::int64_t, 3> kTorchGate = {1, 0, 2};

memory::desc f32(const memory::dims& dims, Tag tag) { return {dims, memory::data_type::f32, tag}; }

/// weight_ih or weight_hh of the layers as (layer, D, I, gate, H), row-major.
std::vector<float> transposed(const Weights& weights, std::int64_t first_layer, std::int64_t layers, bool recurrent) {
  const Config& config = weights.config();
  std::vector<float> result;
  for (std::int64_t layer = first_layer; layer < first_layer + layers; ++layer) {
    for (std::int64_t d = 0; d < config.num_directions(); ++d) {
      const CellWeights& cell = weights.cell(layer, d);
      const ConstTensorView& view = recurrent ? cell.weight_hh : cell.weight_ih;
      const std::vector<float> rows = to_vector<float>(view);  // (3H, I)
      const std::int64_t width = view.extents[1];
      for (std::int64_t i = 0; i < width; ++i) {
        for (const std::int64_t gate : kTorchGate) {
          for (std::int64_t unit = 0; unit < config.hidden_size; ++unit) {
            result.push_back(rows[static_cast<std::size_t>((gate * config.hidden_size + unit) * width + i)]);
          }
        }
      }
    }
  }
  return result;
}

/// (layer, D, 4, H): b_iz + b_hz, b_ir + b_hr, b_in, b_hn.
std::vector<float> biases(const Weights& weights, std::int64_t first_layer, std::int64_t layers) {
  const Config& config = weights.config();
  const auto hidden = static_cast<std::size_t>(config.hidden_size);
  std::vector<float> result;
  for (std::int64_t layer = first_layer; layer < first_layer + layers; ++layer) {
    for (std::int64_t d = 0; d < config.num_directions(); ++d) {
      const std::vector<float> ih = to_vector<float>(weights.cell(layer, d).bias_ih);  // (3H): r, z, n
      const std::vector<float> hh = to_vector<float>(weights.cell(layer, d).bias_hh);
      for (std::size_t i = 0; i < hidden; ++i) result.push_back(ih[hidden + i] + hh[hidden + i]);
      for (std::size_t i = 0; i < hidden; ++i) result.push_back(ih[i] + hh[i]);
      for (std::size_t i = 0; i < hidden; ++i) result.push_back(ih[2 * hidden + i]);
      for (std::size_t i = 0; i < hidden; ++i) result.push_back(hh[2 * hidden + i]);
    }
  }
  return result;
}

/// The values, given in the plain layout, in the layout that the primitive asked for.
memory packed(const dnnl::engine& engine, dnnl::stream& stream, std::vector<float> values, const memory::desc& plain,
              const memory::desc& wanted) {
  memory source(plain, engine, values.data());
  memory target(wanted, engine);
  dnnl::reorder(source, target).execute(stream, source, target);
  stream.wait();
  return target;
}

}  // namespace

OnednnGru::OnednnGru(const Workload& workload) {
  const Config& config = workload.weights.config();
  if (!config.bias || !config.reset_after || workload.batch_first || workload.x.rank() != 3) {
    throw Error("bench/peers: oneDNN is compared on (T, B, I) sequences with bias and reset after the product only");
  }
  const auto state = static_cast<std::size_t>(config.num_layers * config.num_directions() * workload.batch_size() *
                                              config.hidden_size);
  h0_.assign(state, 0.0F);
  h_n_.assign(state, 0.0F);
  sequences_.push_back(to_vector<float>(workload.x.view()));
  for (std::int64_t layer = 0; layer < config.num_layers;) {
    const bool stackable = config.layer_input_size(layer) == config.hidden_size && !config.bidirectional;
    const std::int64_t layers = stackable ? config.num_layers - layer : 1;
    stages_.push_back(make_stage(workload, layer, layers));
    layer += layers;
  }
}

OnednnGru::Stage OnednnGru::make_stage(const Workload& workload, std::int64_t first_layer, std::int64_t layers) {
  const Config& config = workload.weights.config();
  const std::int64_t D = config.num_directions();
  const std::int64_t T = workload.seq_len();
  const std::int64_t B = workload.batch_size();
  const std::int64_t H = config.hidden_size;
  const std::int64_t I = config.layer_input_size(first_layer);
  const auto source = f32({T, B, I}, Tag::tnc);
  const auto result = f32({T, B, D * H}, Tag::tnc);
  const auto state = f32({layers, D, B, H}, Tag::ldnc);
  const memory::dims layer_dims = {layers, D, I, 3, H};
  const memory::dims iter_dims = {layers, D, H, 3, H};
  const memory::dims bias_dims = {layers, D, 4, H};
  using Forward = dnnl::lbr_gru_forward;
  const Forward::desc wanted(
      dnnl::prop_kind::forward_inference,
      config.bidirectional ? dnnl::rnn_direction::bidirectional_concat : dnnl::rnn_direction::unidirectional_left2right,
      source, state, f32(layer_dims, Tag::any), f32(iter_dims, Tag::any), f32(bias_dims, Tag::any), result, state);
  const Forward::primitive_desc chosen(wanted, engine_);

  float* const input = sequences_.back().data();
  sequences_.emplace_back(static_cast<std::size_t>(T * B * D * H));  // moves the vectors, not their elements
  const std::size_t state_offset = static_cast<std::size_t>(first_layer * D * B * H);
  const Weights& w = workload.weights;
  return {Forward(chosen),
          {{DNNL_ARG_SRC_LAYER, memory(source, engine_, input)},
           {DNNL_ARG_SRC_ITER, memory(state, engine_, h0_.data() + state_offset)},
           {DNNL_ARG_WEIGHTS_LAYER, packed(engine_, stream_, transposed(w, first_layer, layers, false),
                                           f32(layer_dims, Tag::ldigo), chosen.weights_layer_desc())},
           {DNNL_ARG_WEIGHTS_ITER, packed(engine_, stream_, transposed(w, first_layer, layers, true),
                                          f32(iter_dims, Tag::ldigo), chosen.weights_iter_desc())},
           {DNNL_ARG_BIAS,
            packed(engine_, stream_, biases(w, first_layer, layers), f32(bias_dims, Tag::ldgo), chosen.bias_desc())},
           {DNNL_ARG_DST_LAYER, memory(result, engine_, sequences_.back().data())},
           {DNNL_ARG_DST_ITER, memory(state, engine_, h_n_.data() + state_offset)}}};
}

void OnednnGru::execute() {
  for (const Stage& stage : stages_) stage.primitive.execute(stream_, stage.arguments);
  stream_.wait();
}

void OnednnGru::step() {
  execute();
  auto& arguments = stages_.front().arguments;
  std::swap(arguments.at(DNNL_ARG_SRC_ITER), arguments.at(DNNL_ARG_DST_ITER));
}

}  // namespace gru::bench
