// SPDX-License-Identifier: Apache-2.0
// Trains a classifier of handwritten digits from nothing: the model that examples/digits runs.
//
// An image is 8 rows of 8 pixels: 8 time steps of 8 inputs. A bidirectional GRU of two layers reads the rows; a linear head
// turns its final states into ten scores. Cross-entropy, Adam, batches of 64 images. The GRU's part of a training step is
// three calls: execute with a reserve, backward, set_weights. They run on the device that is named.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <gru/gru_runtime.hpp>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace {

constexpr std::int64_t kClasses = 10, kHidden = 32, kBatch = 64, kEpochs = 40;
constexpr std::uint64_t kSeed = 1;
constexpr double kLearningRate = 4e-3, kEnough = 0.95;

struct Images {
  std::vector<float> x;  // (N, T, I)
  std::vector<std::int64_t> labels;
  std::int64_t steps = 0, input = 0;
  std::int64_t count() const { return static_cast<std::int64_t>(labels.size()); }
};

Images load(const std::filesystem::path& folder) {
  const gru::Tensor x = gru::load_npy(folder / "x.npy");
  const gru::Tensor labels = gru::load_npy(folder / "labels.npy");
  if (x.rank() != 3 || labels.extents() != std::vector{x.extents()[0]}) {
    throw gru::Error(folder.string() + ": expected x.npy (N, T, I) and labels.npy (N)");
  }
  const auto* label = labels.data<std::int64_t>();
  Images images{gru::to_vector<float>(x.view()), {label, label + labels.size()}, x.extents()[1], x.extents()[2]};
  for (const std::int64_t each : images.labels) {
    if (each < 0 || each >= kClasses) throw gru::Error(folder.string() + ": labels.npy: expected digits from 0 to 9");
  }
  return images;
}

// A tensor that is learned, with Adam's moments (Kingma and Ba 2015).
struct Parameter {
  std::string name;
  gru::Tensor value, gradient;
  std::vector<double> mean, square;

  Parameter(std::string name_, gru::Tensor value_) : name(std::move(name_)), value(std::move(value_)) {
    gradient = gru::Tensor(gru::DType::float32, value.extents());
    mean.resize(static_cast<std::size_t>(value.size()));
    square.resize(mean.size());
  }

  void update(std::int64_t step, double rate) {
    constexpr double kMean = 0.9, kSquare = 0.999;
    const auto n = static_cast<double>(step);
    for (std::size_t i = 0; i < mean.size(); ++i) {
      const double g = gradient.data<float>()[i];
      mean[i] = kMean * mean[i] + (1 - kMean) * g;
      square[i] = kSquare * square[i] + (1 - kSquare) * g * g;
      const double m = mean[i] / (1 - std::pow(kMean, n));
      const double s = square[i] / (1 - std::pow(kSquare, n));
      value.data<float>()[i] -= static_cast<float>(rate * m / (std::sqrt(s) + 1e-8));
    }
  }
};

// The GRU: its parameters on the host and on the device, and the plan that computes with them.
class Layers {
 public:
  Layers(const gru::Device& device, const gru::Config& config, const Images& images)
      : config_(config), plan_(device, gru::Weights::random(config, kSeed), options(images)) {
    const gru::Weights initial = gru::Weights::random(config, kSeed);
    for (std::int64_t cell = 0; cell < 2 * config.num_layers; ++cell) {
      const gru::CellWeights& c = initial.cell(cell / 2, cell % 2);
      const auto add = [&](const char* stem, const gru::ConstTensorView& view) {
        const std::string suffix = "_l" + std::to_string(cell / 2) + (cell % 2 == 1 ? "_reverse" : "");
        parameters.emplace_back("gru." + (stem + suffix), gru::convert(view, gru::DType::float32));
        values_.emplace_back(plan_, parameters.back().value);
        gradients_.emplace_back(plan_, parameters.back().gradient);
      };
      add("weight_ih", c.weight_ih);
      add("weight_hh", c.weight_hh);
      add("bias_ih", c.bias_ih);
      add("bias_hh", c.bias_hh);
      const std::size_t at = values_.size() - 4;
      weight_views_.push_back(
          {values_[at].view(), values_[at + 1].view(), values_[at + 2].view(), values_[at + 3].view()});
      gradient_views_.push_back(
          {gradients_[at].view(), gradients_[at + 1].view(), gradients_[at + 2].view(), gradients_[at + 3].view()});
    }
    x_ = gru::DeviceBuffer(plan_, gru::DType::float32, {kBatch, images.steps, images.input});
    h_n_ = gru::DeviceBuffer(plan_, gru::DType::float32, states(kBatch));
    grad_h_n_ = gru::DeviceBuffer(plan_, gru::DType::float32, states(kBatch));
    kept_ = gru::DeviceBuffer(plan_, gru::DType::int64,
                              {static_cast<std::int64_t>((plan_.reserve_bytes() + 7) / sizeof(std::int64_t))});
  }

  std::vector<std::int64_t> states(std::int64_t batch) const { return {2 * config_.num_layers, batch, kHidden}; }
  std::string_view backend() const { return plan_.backend(); }

  // h_n (2L, B, H) of a batch of kBatch images (B, T, I).
  gru::Tensor forward(const std::vector<float>& x, bool training) {
    x_.copy_in(x.data());
    const gru::Reserve reserve = training ? gru::Reserve{kept_.view().data, plan_.reserve_bytes()} : gru::Reserve{};
    plan_.execute({.x = x_.view(), .h_n = h_n_.view(), .reserve = reserve});
    plan_.wait();
    return h_n_.to_host();
  }

  // The gradients of the batch that went forward last.
  void backward(const gru::Tensor& grad_h_n) {
    grad_h_n_.copy_in(grad_h_n.bytes());
    gru::BackwardCall call;
    call.x = x_.view();
    call.reserve = {kept_.view().data, plan_.reserve_bytes()};
    call.grad_h_n = grad_h_n_.view();
    call.cells = gradient_views_;
    plan_.backward(call);
    plan_.wait();
    for (std::size_t i = 0; i < parameters.size(); ++i) gradients_[i].copy_out(parameters[i].gradient.bytes());
  }

  void set_weights() {
    for (std::size_t i = 0; i < parameters.size(); ++i) values_[i].copy_in(parameters[i].value.bytes());
    plan_.set_weights(weight_views_);
  }

  std::vector<Parameter> parameters;

 private:
  static gru::PlanOptions options(const Images& images) {
    gru::PlanOptions o;
    o.batch_size = kBatch;
    o.seq_len = images.steps;
    o.batch_first = true;
    o.training = gru::Training::keep_gates;
    return o;
  }

  gru::Config config_;
  gru::DevicePlan plan_;
  std::deque<gru::DeviceBuffer> values_, gradients_;
  std::vector<gru::CellWeights> weight_views_;
  std::vector<gru::CellGradients> gradient_views_;
  gru::DeviceBuffer x_, h_n_, grad_h_n_, kept_;
};

struct Scores {
  double loss = 0;  // mean cross-entropy
  std::int64_t right = 0;
};

// logits[b] = weight * (last layer's forward state, its reverse state) + bias, and their cross-entropy with the labels.
class Head {
 public:
  Head()
      : weight("head.weight", gru::Tensor(gru::DType::float32, {kClasses, 2 * kHidden})),
        bias("head.bias", gru::Tensor(gru::DType::float32, {kClasses})) {
    std::mt19937_64 engine(kSeed + 1);
    const double scale = 1 / std::sqrt(2.0 * kHidden);
    for (std::int64_t i = 0; i < weight.value.size(); ++i) {
      weight.value.data<float>()[i] = static_cast<float>(scale * (static_cast<double>(engine() >> 11U) * 0x1p-52 - 1));
    }
  }

  // Of the first `count` rows of the batch. With grad_h_n, also all gradients of the mean loss.
  Scores judge(const gru::Tensor& h_n, std::span<const std::int64_t> labels, gru::Tensor* grad_h_n) {
    const std::int64_t states = h_n.extents()[0], batch = h_n.extents()[1];
    const auto count = static_cast<std::int64_t>(labels.size());
    // Where feature i of image b lies in h_n and its gradient.
    const auto place = [&](std::int64_t b, std::int64_t i) {
      return ((states - 2 + i / kHidden) * batch + b) * kHidden + i % kHidden;
    };
    if (grad_h_n != nullptr) {
      std::fill_n(weight.gradient.data<float>(), weight.gradient.size(), 0.0F);
      std::fill_n(bias.gradient.data<float>(), bias.gradient.size(), 0.0F);
    }
    Scores scores;
    for (std::int64_t b = 0; b < count; ++b) {
      double logits[kClasses];
      for (std::int64_t c = 0; c < kClasses; ++c) {
        logits[c] = bias.value.data<float>()[c];
        for (std::int64_t i = 0; i < 2 * kHidden; ++i) {
          logits[c] += weight.value.data<float>()[c * 2 * kHidden + i] * h_n.data<float>()[place(b, i)];
        }
      }
      const auto* const best = std::max_element(logits, logits + kClasses);
      const std::int64_t label = labels[static_cast<std::size_t>(b)];
      double sum = 0;
      for (const double each : logits) sum += std::exp(each - *best);
      scores.loss += (std::log(sum) + *best - logits[label]) / static_cast<double>(count);
      scores.right += best - logits == label ? 1 : 0;
      for (std::int64_t c = 0; grad_h_n != nullptr && c < kClasses; ++c) {
        const double probability = std::exp(logits[c] - *best) / sum;
        const auto d = static_cast<float>((probability - (c == label ? 1 : 0)) / static_cast<double>(count));
        bias.gradient.data<float>()[c] += d;
        for (std::int64_t i = 0; i < 2 * kHidden; ++i) {
          weight.gradient.data<float>()[c * 2 * kHidden + i] += d * h_n.data<float>()[place(b, i)];
          grad_h_n->data<float>()[place(b, i)] += d * weight.value.data<float>()[c * 2 * kHidden + i];
        }
      }
    }
    return scores;
  }

  Parameter weight, bias;
};

// The images of `rows`, kBatch of them; missing ones are 0.
std::vector<float> gather(const Images& images, std::span<const std::int64_t> rows, std::vector<std::int64_t>& labels) {
  const std::int64_t size = images.steps * images.input;
  std::vector<float> x(static_cast<std::size_t>(kBatch * size));
  labels.clear();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::copy_n(images.x.begin() + rows[i] * size, size, x.begin() + static_cast<std::ptrdiff_t>(i) * size);
    labels.push_back(images.labels[static_cast<std::size_t>(rows[i])]);
  }
  return x;
}

// f(rows) for batches of at most kBatch rows.
template <class F>
void for_batches(const std::vector<std::int64_t>& order, const F& f) {
  for (std::size_t at = 0; at < order.size(); at += kBatch) {
    f(std::span(order).subspan(at, std::min<std::size_t>(kBatch, order.size() - at)));
  }
}

std::vector<std::int64_t> in_order(std::int64_t n) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
  return order;
}

double accuracy(Layers& layers, Head& head, const Images& images) {
  std::int64_t right = 0;
  std::vector<std::int64_t> labels;
  for_batches(in_order(images.count()), [&](std::span<const std::int64_t> rows) {
    const std::vector<float> x = gather(images, rows, labels);
    right += head.judge(layers.forward(x, false), labels, nullptr).right;
  });
  return static_cast<double>(right) / static_cast<double>(images.count());
}

int train(const std::filesystem::path& folder, const std::filesystem::path& test_folder,
          const std::filesystem::path& to, const std::string& device) {
  const Images images = load(folder);
  const Images test = load(test_folder);
  if (test.steps != images.steps || test.input != images.input) {
    throw gru::Error(test_folder.string() + ": its images have another size than those of " + folder.string());
  }
  const gru::Config config{.input_size = images.input, .hidden_size = kHidden, .num_layers = 2, .bidirectional = true};
  Layers layers(gru::Device(device), config, images);
  Head head;
  std::printf("%lld images, GRU %s, backend %s\n", static_cast<long long>(images.count()),
              gru::describe(config).c_str(), std::string(layers.backend()).c_str());

  std::vector<std::int64_t> order = in_order(images.count());
  std::vector<std::int64_t> labels;
  std::mt19937_64 engine(kSeed + 2);
  std::int64_t step = 0;
  double reached = 0;
  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[engine() % i]);
    const double rate = kLearningRate * 0.5 * (1 + std::cos(3.14159265358979 * static_cast<double>(epoch) / kEpochs));
    Scores sum;
    for_batches(order, [&](std::span<const std::int64_t> rows) {
      const std::vector<float> x = gather(images, rows, labels);
      const gru::Tensor h_n = layers.forward(x, true);
      gru::Tensor grad_h_n(gru::DType::float32, layers.states(kBatch));
      const Scores scores = head.judge(h_n, labels, &grad_h_n);
      layers.backward(grad_h_n);
      ++step;
      for (Parameter& parameter : layers.parameters) parameter.update(step, rate);
      head.weight.update(step, rate);
      head.bias.update(step, rate);
      layers.set_weights();
      sum.loss += scores.loss * static_cast<double>(rows.size());
      sum.right += scores.right;
    });
    reached = accuracy(layers, head, test);
    const auto n = static_cast<double>(images.count());
    std::printf("epoch %2lld: loss %.4f, right %.2f %%, of the test images %.2f %%\n",
                static_cast<long long>(epoch + 1), sum.loss / n, 100 * static_cast<double>(sum.right) / n,
                100 * reached);
    std::fflush(stdout);
  }
  std::vector<std::pair<std::string, gru::Tensor>> tensors;
  for (Parameter& parameter : layers.parameters) tensors.emplace_back(parameter.name, parameter.value);
  tensors.emplace_back(head.weight.name, head.weight.value);
  tensors.emplace_back(head.bias.name, head.bias.value);
  gru::save_safetensors(to, tensors);
  std::printf("saved %zu tensors in %s\n", tensors.size(), to.string().c_str());
  if (reached < kEnough) std::printf("TOO FEW: expected %.0f %% of the test images\n", 100 * kEnough);
  return reached < kEnough ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4 && argc != 5) {
    std::fprintf(stderr,
                 "usage: %s TRAINING TEST MODEL [DEVICE]\n  TRAINING, TEST: folders with x.npy and labels.npy "
                 "(examples/train and examples/digits)\n  MODEL: the safetensors file to write\n  DEVICE: auto, cpu, "
                 "cuda (default: auto)\n",
                 argv[0]);
    return 2;
  }
  try {
    const gru::Runtime runtime;
    return train(argv[1], argv[2], argv[3], argc == 5 ? argv[4] : "auto");
  } catch (const gru::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
