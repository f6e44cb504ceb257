// SPDX-License-Identifier: Apache-2.0
// Reads handwritten digits with a GRU that PyTorch trained, on every backend of this build.
//
// An image is 8 rows of 8 pixels: 8 time steps of 8 inputs. A bidirectional GRU of two layers reads the rows; a linear
// head turns its final states into ten scores. PyTorch's scores for the same images lie beside the weights (make.py),
// so the program can say whether it computes the same.
//
// The GRU itself takes five lines, in run(): options, plan, buffers, execute, copy back.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <gru/gru.hpp>
#include <string>
#include <vector>

namespace {

constexpr std::int64_t kClasses = 10;
constexpr std::size_t kRuns = 20;    // timed runs of a backend,
constexpr double kEnoughMs = 300.0;  // fewer if they take longer than this

struct Digits {
  gru::Weights weights;      // found in the file by their names, here "gru.weight_ih_l0" and so on
  gru::Tensor head_weight;   // (10, 2H)
  gru::Tensor head_bias;     // (10)
  gru::Tensor x;             // (N, 8, 8), batch first
  gru::Tensor labels;        // (N)
  gru::Tensor torch_logits;  // (N, 10), PyTorch in float64

  std::int64_t images() const { return x.extents()[0]; }
};

gru::Tensor tensor_named(const std::filesystem::path& path, const std::string& wanted) {
  for (auto& [name, tensor] : gru::load_safetensors(path)) {
    if (name == wanted) return std::move(tensor);
  }
  throw gru::Error(path.string() + ": has no tensor called " + wanted);
}

Digits load(const std::filesystem::path& folder) {
  const auto model = folder / "weights.safetensors";
  Digits digits{
      gru::load_weights(model),        tensor_named(model, "head.weight"),   tensor_named(model, "head.bias"),
      gru::load_npy(folder / "x.npy"), gru::load_npy(folder / "labels.npy"), gru::load_npy(folder / "logits.npy")};
  // The library checks the GRU's tensors and x; the rest is this program's business.
  using Extents = std::vector<std::int64_t>;
  const gru::Config& config = digits.weights.config();
  if (digits.x.rank() != 3 || !config.bidirectional || digits.labels.extents() != Extents{digits.images()} ||
      digits.torch_logits.extents() != Extents{digits.images(), kClasses} ||
      digits.head_weight.extents() != Extents{kClasses, 2 * config.hidden_size} ||
      digits.head_bias.extents() != Extents{kClasses}) {
    throw gru::Error(folder.string() + ": the files do not belong together; run make.py in that folder again");
  }
  return digits;
}

struct Result {
  std::vector<double> h_n;  // (L*D, N, H): the final states of every layer and direction
  double prepare_ms = 0;
  double execute_ms = 0;  // median
};

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

// Throws gru::Error with the reason if the backend does not take this GRU.
template <class Space>
Result run(const Space& space, const Digits& digits, const std::string& backend, gru::DType dtype) {
  const gru::Config& config = digits.weights.config();
  const gru::Tensor x = gru::convert(digits.x.view(), dtype);

  const auto start = std::chrono::steady_clock::now();
  gru::PlanOptions options = gru::options_for(x.view(), {.batch_first = true, .backend = backend});
  gru::Plan<Space> plan(space, digits.weights, options);
  Result result;
  result.prepare_ms = milliseconds_since(start);

  // Memory where the plan wants it: the host's here, a GPU's for gru::CudaStream.
  gru::Buffer<Space> input(space, x);
  gru::Buffer<Space> h_n(space, dtype,
                         {config.num_layers * config.num_directions(), digits.images(), config.hidden_size});

  std::vector<double> times;
  double spent = -1;  // the first run warms up
  while (spent < kEnoughMs && times.size() < kRuns) {
    const auto begin = std::chrono::steady_clock::now();
    plan.execute({.x = input.view(), .h_n = h_n.view()});
    gru::SpaceTraits<Space>::fence(space);
    if (spent >= 0) times.push_back(milliseconds_since(begin));
    spent = spent < 0 ? 0 : spent + times.back();
  }
  std::ranges::sort(times);
  result.execute_ms = times[times.size() / 2];
  result.h_n = gru::to_vector<double>(h_n.to_host().view());
  return result;
}

// logits[n] = head_weight * (last layer's forward state, last layer's reverse state) + head_bias; (N, 10).
std::vector<double> apply_head(const Digits& digits, const std::vector<double>& h_n) {
  const auto weight = gru::to_vector<double>(digits.head_weight.view());
  std::vector<double> bias = gru::to_vector<double>(digits.head_bias.view());
  const std::int64_t hidden = digits.weights.config().hidden_size;
  const std::int64_t last = 2 * (digits.weights.config().num_layers - 1);  // row of h_n: layer * 2 + direction
  std::vector<double> logits;
  for (std::int64_t n = 0; n < digits.images(); ++n) {
    for (std::int64_t c = 0; c < kClasses; ++c) {
      double sum = bias[static_cast<std::size_t>(c)];
      for (std::int64_t i = 0; i < 2 * hidden; ++i) {
        const std::int64_t row = last + i / hidden;
        sum += weight[static_cast<std::size_t>(c * 2 * hidden + i)] *
               h_n[static_cast<std::size_t>((row * digits.images() + n) * hidden + i % hidden)];
      }
      logits.push_back(sum);
    }
  }
  return logits;
}

std::int64_t count_correct(const Digits& digits, const std::vector<double>& logits) {
  std::int64_t correct = 0;
  for (std::int64_t n = 0; n < digits.images(); ++n) {
    const auto scores = logits.begin() + n * kClasses;
    const auto guess = std::max_element(scores, scores + kClasses) - scores;
    if (guess == digits.labels.data<std::int64_t>()[n]) ++correct;
  }
  return correct;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

// |a - b| / |b|
double relative_error(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

// Every backend of the space in float32, one line each. Returns whether all of them agree with PyTorch and the oracle.
template <class Space>
bool run_all(const Digits& digits, const Result& oracle, const std::vector<double>& torch) {
  bool agree = true;
  if constexpr (gru::is_enabled_space<Space>) {
    using Traits = gru::SpaceTraits<Space>;
    if (!Traits::available()) return true;
    const Space space = Traits::make_instance();
    const std::int64_t expected = count_correct(digits, torch);
    bool somebody = false;
    for (const std::string& backend : gru::Plan<Space>::backends()) {
      Result result;
      try {
        result = run(space, digits, backend, gru::DType::float32);
      } catch (const gru::Error& refusal) {  // not every backend takes every GRU; one of a space must
        std::printf("%-16s %s\n", backend.c_str(), refusal.what());
        continue;
      }
      somebody = true;
      const std::vector<double> logits = apply_head(digits, result.h_n);
      const std::int64_t correct = count_correct(digits, logits);
      const double error = relative_error(result.h_n, oracle.h_n);
      std::printf("%-16s %5lld %9.2f %% %14.1e %14.1e %9.3f ms %9.3f ms\n", backend.c_str(),
                  static_cast<long long>(correct),
                  100.0 * static_cast<double>(correct) / static_cast<double>(digits.images()), error,
                  largest_difference(logits, torch), result.prepare_ms, result.execute_ms);
      agree = agree && correct == expected && error < 2e-6;
    }
    agree = agree && somebody;
  }
  return agree;
}

int demo(const std::filesystem::path& folder) {
  using Host = Kokkos::DefaultHostExecutionSpace;
  const Digits digits = load(folder);
  const std::vector<double> torch = gru::to_vector<double>(digits.torch_logits.view());
  const Result oracle = run(Host{}, digits, "eigen", gru::DType::float64);

  const std::int64_t correct = count_correct(digits, torch);
  std::printf("%lld handwritten digits, GRU %s\nPyTorch reads %lld of them right (%.2f %%)\n\n",
              static_cast<long long>(digits.images()), gru::describe(digits.weights.config()).c_str(),
              static_cast<long long>(correct),
              100.0 * static_cast<double>(correct) / static_cast<double>(digits.images()));
  std::printf("%-16s %5s %11s %14s %14s %12s %12s\n", "backend", "right", "accuracy", "error: oracle", "PyTorch",
              "prepare", "execute");
  const bool host = run_all<Host>(digits, oracle, torch);
  const bool cuda = run_all<gru::CudaStream>(digits, oracle, torch);
  std::puts(
      "\nerror: |h_n - oracle| / |oracle| against the Eigen reference in float64, and the largest difference of a\n"
      "score from PyTorch's; execute: median of up to 20 runs over all images");
  if (!host || !cuda) std::puts("NOT EQUAL: a backend predicts other digits than PyTorch or misses 2e-6");
  return host && cuda ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n  FOLDER: examples/digits, with weights.safetensors and x.npy\n", argv[0]);
    return 2;
  }
  // Kokkos belongs to the application; its advice on binding threads to cores is not for a demo.
  const Kokkos::ScopeGuard kokkos(Kokkos::InitializationSettings().set_disable_warnings(true));
  try {
    return demo(argv[1]);
  } catch (const gru::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
