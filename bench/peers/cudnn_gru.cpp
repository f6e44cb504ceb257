// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/cudnn_gru.hpp"

#include <cudnn.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "bench/peers/device_clock.hpp"
#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru::bench {
namespace {

void require(cudnnStatus_t status, const char* call) {
  if (status != CUDNN_STATUS_SUCCESS) {
    static_cast<void>(cudaGetLastError());
    throw Error(fmt::format("cuDNN: {} answers {}", call, cudnnGetErrorString(status)));
  }
}

cudnnRNNAlgo_t algorithm_of(std::string_view name) {
  constexpr std::array values = {CUDNN_RNN_ALGO_STANDARD, CUDNN_RNN_ALGO_PERSIST_STATIC, CUDNN_RNN_ALGO_PERSIST_DYNAMIC,
                                 CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H};
  return values.at(static_cast<std::size_t>(std::ranges::find(kCudnnAlgorithms, name) - kCudnnAlgorithms.begin()));
}

/// A descriptor that is destroyed with the object.
template <class Descriptor, cudnnStatus_t (*kCreate)(Descriptor*), cudnnStatus_t (*kDestroy)(Descriptor)>
struct Owned {
  Descriptor value{};
  Owned() { require(kCreate(&value), "creating a descriptor"); }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() { static_cast<void>(kDestroy(value)); }
};
using Handle = Owned<cudnnHandle_t, cudnnCreate, cudnnDestroy>;
using Dropout = Owned<cudnnDropoutDescriptor_t, cudnnCreateDropoutDescriptor, cudnnDestroyDropoutDescriptor>;
using Rnn = Owned<cudnnRNNDescriptor_t, cudnnCreateRNNDescriptor, cudnnDestroyRNNDescriptor>;
using Sequence = Owned<cudnnRNNDataDescriptor_t, cudnnCreateRNNDataDescriptor, cudnnDestroyRNNDataDescriptor>;
using State = Owned<cudnnTensorDescriptor_t, cudnnCreateTensorDescriptor, cudnnDestroyTensorDescriptor>;

std::shared_ptr<void> device_bytes(std::size_t bytes) {
  void* memory = nullptr;
  require_cuda(cudaMalloc(&memory, std::max<std::size_t>(bytes, 1)), "cudaMalloc");
  return {memory, [](void* p) { static_cast<void>(cudaFree(p)); }};
}

/// A float's upper half bits as IEEE half; values here are of moderate size, so neither range nor rounding matters.
std::uint16_t to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const int exponent = static_cast<int>(bits >> 23U & 0xffU) - 112;
  if (exponent <= 0) return 0;
  return static_cast<std::uint16_t>((bits >> 16U & 0x8000U) | static_cast<unsigned>(exponent) << 10U |
                                    (bits >> 13U & 0x3ffU));
}

/// A float's upper half, which is a bfloat16.
std::uint16_t to_bfloat(float value) { return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16U); }

/// Uniform in [-scale, scale): a million numbers, again and again.
std::shared_ptr<void> random_values(std::size_t bytes, std::string_view math, float scale) {
  constexpr std::size_t kNumbers = 1'000'003;
  static const std::vector<float> numbers = [] {
    std::mt19937 engine(1);
    std::uniform_real_distribution<float> draw(-1.0F, 1.0F);
    std::vector<float> made(kNumbers);
    for (float& v : made) v = draw(engine);
    return made;
  }();
  const bool half = math == "fp16", bfloat = math == "bf16";
  std::vector<std::byte> block(kNumbers * (half || bfloat ? 2 : 4));
  for (std::size_t i = 0; i < kNumbers; ++i) {
    const float value = numbers[i] * scale;
    const std::uint16_t bits = half ? to_half(value) : to_bfloat(value);
    if (half || bfloat) std::memcpy(block.data() + 2 * i, &bits, sizeof bits);
    if (!half && !bfloat) std::memcpy(block.data() + 4 * i, &value, sizeof value);
  }
  auto memory = device_bytes(bytes);
  for (std::size_t done = 0; done < bytes; done += block.size()) {
    require_cuda(cudaMemcpy(static_cast<std::byte*>(memory.get()) + done, block.data(),
                            std::min(block.size(), bytes - done), cudaMemcpyHostToDevice),
                 "cudaMemcpy");
  }
  return memory;
}

cudnnDataType_t type_of(std::string_view math) {
  return math == "fp16" ? CUDNN_DATA_HALF : math == "bf16" ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

cudnnMathType_t math_of(std::string_view math) {
  if (type_of(math) != CUDNN_DATA_FLOAT) return CUDNN_TENSOR_OP_MATH;
  return math == "tf32" ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
}

}  // namespace

std::string cudnn_version() {
  const std::size_t v = cudnnGetVersion();
  return fmt::format("{}.{}.{}", v / 10000, v / 100 % 100, v % 100);
}

struct CudnnGru::Impl {
  Handle handle;
  Dropout dropout;
  Rnn rnn;
  Sequence x_shape, y_shape;
  State h_shape;
  std::shared_ptr<void> dropout_states, x, y, hx, hy, weights, lengths, workspace;
  std::shared_ptr<void> dx, dy, dhx, dweights, reserve;  // of training
  std::size_t weight_bytes = 0, workspace_bytes = 0, reserve_bytes = 0, all_bytes = 0;
  cudnnForwardMode_t mode = CUDNN_FWD_MODE_INFERENCE;
  cudaStream_t stream = nullptr;
};

bool CudnnGru::surely_slower(const Case& c, std::string_view algorithm) {
  return c.batch_size >= 128 && (algorithm == "persist_dynamic" || algorithm == "persist_static");
}

CudnnGru::CudnnGru(const Case& c, const CudnnMode& mode, std::span<const int> given_lengths, cudaStream_t stream,
                   CudnnPass pass)
    : impl_(std::make_unique<Impl>()) {
  Impl& my = *impl_;
  const bool trains = pass == CudnnPass::training;
  my.mode = trains ? CUDNN_FWD_MODE_TRAINING : CUDNN_FWD_MODE_INFERENCE;
  my.stream = stream;
  const auto type = type_of(mode.math);
  const std::size_t element = type == CUDNN_DATA_FLOAT ? 4 : 2;
  const auto steps = static_cast<int>(c.seq_len);
  const auto batch = static_cast<int>(c.batch_size);
  const auto inputs = static_cast<int>(c.input_size);
  const auto hidden = static_cast<int>(c.hidden_size);
  const auto layers = static_cast<int>(c.num_layers);
  const int directions = c.bidirectional ? 2 : 1;

  require(cudnnSetStream(my.handle.value, stream), "cudnnSetStream");
  std::size_t bytes = 0;
  require(cudnnDropoutGetStatesSize(my.handle.value, &bytes), "cudnnDropoutGetStatesSize");
  my.dropout_states = device_bytes(bytes);
  require(cudnnSetDropoutDescriptor(my.dropout.value, my.handle.value, 0.0F, my.dropout_states.get(), bytes, 1),
          "cudnnSetDropoutDescriptor");
  const cudnnRNNAlgo_t algorithm = algorithm_of(mode.algorithm);
  require(cudnnSetRNNDescriptor_v8(my.rnn.value, algorithm, CUDNN_GRU, CUDNN_RNN_DOUBLE_BIAS,
                                   c.bidirectional ? CUDNN_BIDIRECTIONAL : CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT,
                                   type, CUDNN_DATA_FLOAT, math_of(mode.math), inputs, hidden, hidden, layers,
                                   my.dropout.value, CUDNN_RNN_PADDED_IO_DISABLED),
          "cudnnSetRNNDescriptor_v8");
  std::vector<int> lengths(given_lengths.begin(), given_lengths.end());
  if (lengths.empty()) lengths.assign(static_cast<std::size_t>(batch), steps);
  float padding = 0;
  const auto shape = [&](Sequence& sequence, int width) {
    require(cudnnSetRNNDataDescriptor(sequence.value, type, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED, steps, batch, width,
                                      lengths.data(), &padding),
            "cudnnSetRNNDataDescriptor");
  };
  shape(my.x_shape, inputs);
  shape(my.y_shape, hidden * directions);
  const int extents[] = {layers * directions, batch, hidden};
  const int strides[] = {batch * hidden, hidden, 1};
  require(cudnnSetTensorNdDescriptor(my.h_shape.value, type, 3, extents, strides), "cudnnSetTensorNdDescriptor");
  if (algorithm == CUDNN_RNN_ALGO_PERSIST_DYNAMIC) {
    require(cudnnBuildRNNDynamic(my.handle.value, my.rnn.value, batch), "cudnnBuildRNNDynamic");
  }
  require(cudnnGetRNNTempSpaceSizes(my.handle.value, my.rnn.value, my.mode, my.x_shape.value, &my.workspace_bytes,
                                    &my.reserve_bytes),
          "cudnnGetRNNTempSpaceSizes");
  require(cudnnGetRNNWeightSpaceSize(my.handle.value, my.rnn.value, &my.weight_bytes), "cudnnGetRNNWeightSpaceSize");
  my.workspace = device_bytes(my.workspace_bytes);
  my.weights = random_values(my.weight_bytes, mode.math, 1.0F / std::sqrt(static_cast<float>(hidden)));
  const auto sequence = [&](int width) {
    return element * static_cast<std::size_t>(steps) * static_cast<std::size_t>(batch) *
           static_cast<std::size_t>(width);
  };
  const std::size_t state = element * static_cast<std::size_t>(extents[0]) * static_cast<std::size_t>(batch * hidden);
  my.x = random_values(sequence(inputs), mode.math, 1.0F);
  my.y = device_bytes(sequence(hidden * directions));
  my.hx = random_values(state, mode.math, 1.0F);
  my.hy = device_bytes(state);
  my.lengths = device_bytes(sizeof(int) * lengths.size());
  require_cuda(cudaMemcpy(my.lengths.get(), lengths.data(), sizeof(int) * lengths.size(), cudaMemcpyHostToDevice),
               "cudaMemcpy");
  my.all_bytes = my.workspace_bytes + my.weight_bytes + sequence(inputs) + sequence(hidden * directions) + 2 * state;
  if (!trains) return;
  my.dx = device_bytes(sequence(inputs));
  my.dy = random_values(sequence(hidden * directions), mode.math, 1.0F);
  my.dhx = device_bytes(state);
  my.dweights = device_bytes(my.weight_bytes);
  my.reserve = device_bytes(my.reserve_bytes);
  my.all_bytes += my.reserve_bytes + my.weight_bytes + sequence(inputs) + sequence(hidden * directions) + state;
}

CudnnGru::~CudnnGru() = default;

void CudnnGru::forward() {
  Impl& my = *impl_;
  require(cudnnRNNForward(my.handle.value, my.rnn.value, my.mode, static_cast<const int*>(my.lengths.get()),
                          my.x_shape.value, my.x.get(), my.y_shape.value, my.y.get(), my.h_shape.value, my.hx.get(),
                          my.hy.get(), my.h_shape.value, nullptr, nullptr, my.weight_bytes, my.weights.get(),
                          my.workspace_bytes, my.workspace.get(), my.reserve_bytes, my.reserve.get()),
          "cudnnRNNForward");
}

void CudnnGru::backward() {
  Impl& my = *impl_;
  const auto* lengths = static_cast<const int*>(my.lengths.get());
  require(cudnnRNNBackwardData_v8(my.handle.value, my.rnn.value, lengths, my.y_shape.value, my.y.get(), my.dy.get(),
                                  my.x_shape.value, my.dx.get(), my.h_shape.value, my.hx.get(), nullptr, my.dhx.get(),
                                  my.h_shape.value, nullptr, nullptr, nullptr, my.weight_bytes, my.weights.get(),
                                  my.workspace_bytes, my.workspace.get(), my.reserve_bytes, my.reserve.get()),
          "cudnnRNNBackwardData_v8");
  require_cuda(cudaMemsetAsync(my.dweights.get(), 0, my.weight_bytes, my.stream), "cudaMemsetAsync");
  require(cudnnRNNBackwardWeights_v8(my.handle.value, my.rnn.value, CUDNN_WGRAD_MODE_ADD, lengths, my.x_shape.value,
                                     my.x.get(), my.h_shape.value, my.hx.get(), my.y_shape.value, my.y.get(),
                                     my.weight_bytes, my.dweights.get(), my.workspace_bytes, my.workspace.get(),
                                     my.reserve_bytes, my.reserve.get()),
          "cudnnRNNBackwardWeights_v8");
}

std::size_t CudnnGru::bytes() const { return impl_->all_bytes; }

}  // namespace gru::bench
