// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dnnl.hpp>
#include <unordered_map>
#include <vector>

#include "bench/bench.hpp"

namespace gru::bench {

/// A workload as oneDNN's LBR_GRU primitive computes it: packed weights, memory and primitives made once.
///
/// oneDNN wants every layer of a primitive to have the same input size, so a stack becomes a chain of primitives:
/// layers whose input is H wide in one, the others one each. Its gates are u, r, o = torch's z, r, n; weights are (L,
/// D, I, gate, H), the transpose of torch's; the four biases are u, r, o's input part and o's recurrent part, as LBR
/// (linear before reset) needs.
class OnednnGru {
 public:
  explicit OnednnGru(const Workload& workload);

  /// The whole sequence from h0 = 0, done when it returns.
  void execute();
  /// Execution with h0 and h_n swapped from call to call: a stream of steps. One layer only.
  void step();

  /// (T, B, D*H) and (L*D, B, H), row-major, of the last execution.
  const std::vector<float>& output() const { return sequences_.back(); }
  const std::vector<float>& h_n() const { return h_n_; }

 private:
  struct Stage {
    dnnl::lbr_gru_forward primitive;
    std::unordered_map<int, dnnl::memory> arguments;
  };

  Stage make_stage(const Workload& workload, std::int64_t first_layer, std::int64_t layers);

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::vector<std::vector<float>> sequences_;  ///< x, then each stage's output: (T, B, width)
  std::vector<float> h0_;                      ///< (L*D, B, H)
  std::vector<float> h_n_;                     ///< (L*D, B, H)
  std::vector<Stage> stages_;
};

}  // namespace gru::bench
