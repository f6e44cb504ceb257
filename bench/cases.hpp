// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "gru/config.hpp"

namespace gru::bench {

/// On which kind of space a case runs when no case is named.
enum class Where : std::uint8_t { both, cpu, gpu };

/// One shape and why it is worth timing. Weights and data are random, of torch.nn.GRU's initial scale.
struct Case {
  std::string_view name;
  std::int64_t seq_len;      ///< T: steps
  std::int64_t batch_size;   ///< B: sequences
  std::int64_t input_size;   ///< I: features of x
  std::int64_t hidden_size;  ///< H: features of the state
  std::int64_t num_layers;   ///< L
  bool bidirectional;        ///< D = 2
  Where by_default;
  std::string_view reason;

  Config config() const {
    return {
        .input_size = input_size, .hidden_size = hidden_size, .num_layers = num_layers, .bidirectional = bidirectional};
  }
};

/// The cases. README.md beside this file prints the same table, and a test compares the two.
inline constexpr std::array kCases = {
    Case{"kb39", 512, 10, 128, 256, 6, false, Where::both, "KernelBench level 3, problems 39 and 40"},
    Case{"kb41", 512, 10, 128, 256, 6, true, Where::both, "KernelBench level 3, problems 41 and 42"},
    Case{"cell", 1, 1, 256, 256, 1, false, Where::both, "one streaming step: latency"},
    Case{"speech", 1000, 1, 80, 512, 3, false, Where::both, "one utterance: nothing to batch"},
    Case{"db1024", 1500, 1, 1024, 1024, 1, false, Where::gpu, "DeepBench: weights just fit on a GPU"},
    Case{"db2048", 375, 1, 2048, 2048, 1, false, Where::gpu, "DeepBench: weights are larger than what fits"},
    Case{"mid", 256, 32, 512, 512, 2, true, Where::gpu, "a server's batch"},
    Case{"batch256", 128, 256, 512, 512, 2, false, Where::gpu, "throughput"},
    Case{"batch1024", 64, 1024, 1024, 1024, 1, false, Where::gpu, "throughput, bound by arithmetic"},
    Case{"ensemble", 100, 4096, 16, 32, 1, false, Where::gpu, "many small series"},
    Case{"batch256-cpu", 64, 256, 512, 512, 1, false, Where::cpu, "batch256, shortened for a CPU"},
    Case{"ensemble-cpu", 100, 1024, 16, 32, 1, false, Where::cpu, "ensemble, shortened for a CPU"},
};

/// Floating-point operations of the products, 2 a multiply-add: 2 T B 3H (I_l + H) for each layer and direction, I_l
/// being the layer's input size. Gates are not counted.
std::int64_t flop(const Config& config, std::int64_t seq_len, std::int64_t batch_size);

/// Throws gru::Error that lists the names if there is no such case.
const Case& find_case(std::string_view name);

}  // namespace gru::bench
