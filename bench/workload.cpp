// SPDX-License-Identifier: Apache-2.0
#include <random>
#include <utility>

#include "bench/bench.hpp"
#include "src/store_element.hpp"

namespace gru::bench {

std::int64_t Workload::seq_len() const { return x.extents().at(x.rank() == 3 && batch_first ? 1 : 0); }

std::int64_t Workload::batch_size() const { return x.rank() == 3 ? x.extents().at(batch_first ? 0 : 1) : 1; }

bool Workload::is_step() const { return seq_len() == 1 && !weights.config().bidirectional; }

Workload random_workload(std::string name, const Config& config, std::int64_t seq_len, std::int64_t batch_size,
                         DType dtype) {
  constexpr std::uint64_t kSeed = 1;
  Weights weights = Weights::random(config, kSeed, dtype);
  Tensor x(dtype, {seq_len, batch_size, config.input_size});
  std::mt19937_64 engine(kSeed);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const double value = static_cast<double>(engine() >> 11U) * 0x1p-52 - 1.0;  // [-1, 1)
    store_element(x.bytes(), dtype, i, value);
  }
  return {std::move(name), std::move(weights), std::move(x)};
}

}  // namespace gru::bench
