// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "backends/kokkos/simd/select.hpp"
#include "gru/error.hpp"

// The phases of every instruction set that this machine runs, against plain loops in double.
namespace {

std::vector<double> random_values(std::mt19937& generator, std::size_t n) {
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<double> values(n);
  for (double& v : values) v = uniform(generator);
  return values;
}

/// Elements that end where a page begins that nobody may touch: a kernel that reads or writes past its buffer dies.
template <class T>
class Guarded {
 public:
  Guarded() = default;
  explicit Guarded(const std::vector<double>& values) : Guarded(values.size(), T(0)) {
    for (std::size_t i = 0; i < size_; ++i) data_[i] = static_cast<T>(values[i]);
  }
  Guarded(std::size_t size, T value) : size_(size) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = (size * sizeof(T) + page - 1) / page * page;
    void* memory = mmap(nullptr, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    memory_ = {memory, [length = bytes + page](void* m) { munmap(m, length); }};
    REQUIRE(mprotect(static_cast<char*>(memory) + bytes, page, PROT_NONE) == 0);
    data_ = reinterpret_cast<T*>(static_cast<char*>(memory) + bytes) - size;
    for (std::size_t i = 0; i < size_; ++i) data_[i] = value;
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  friend bool operator==(const Guarded& a, const Guarded& b) {
    return std::equal(a.data_, a.data_ + a.size_, b.data_, b.data_ + b.size_);
  }

 private:
  std::shared_ptr<void> memory_;
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

double sigmoid(double v) { return 1 / (1 + std::exp(-v)); }

/// All kernels for T: for float also those that take weights as pairs of bfloat16.
template <class T>
std::vector<const gru::simd::Kernels<T>*> all_kernels() {
  auto found = gru::simd::available_kernels<T>();
  if constexpr (std::is_same_v<T, float>) {
    for (const auto* k : gru::simd::available_kernels<float>(gru::simd::Storage::bfloat)) found.push_back(k);
  }
  return found;
}

/// A number between -1 and 1 that a bfloat16 holds, as its bits.
std::uint32_t random_bfloat(std::mt19937& generator) {
  const float v = std::uniform_real_distribution<float>(-1, 1)(generator);
  return std::bit_cast<std::uint32_t>(v) >> 16U;
}

struct Sizes {
  int rows, steps, features, hidden;
};

/// One projection of `steps` steps and one step of the recurrence, in packed buffers.
template <class T>
struct Fixture {
  const gru::simd::Kernels<T>& k;
  Sizes s;
  int blocks, padded;
  Guarded<T> w_ih, b_ih, w_hh, b_hn, x, h;  // as packed; x (steps, rows, features), h (rows, padded)
  Guarded<T> gates, next, reset, output;

  Fixture(const gru::simd::Kernels<T>& kernels, const Sizes& sizes, unsigned seed)
      : k(kernels), s(sizes), blocks((s.hidden + k.lanes - 1) / k.lanes), padded(blocks * k.lanes) {
    std::mt19937 generator(seed);
    const auto n = [](int a, int b, int c = 1) { return static_cast<std::size_t>(a) * b * c; };
    w_ih = random_weights(generator, s.features);
    b_ih = Guarded<T>(random_values(generator, n(padded, 3)));
    w_hh = random_weights(generator, s.hidden);
    b_hn = Guarded<T>(random_values(generator, n(padded, 1)));
    x = Guarded<T>(random_values(generator, n(s.steps, s.rows, s.features)));
    h = Guarded<T>(random_values(generator, n(s.rows, padded)));
    gates = Guarded<T>(n(blocks, s.steps * s.rows, gru::simd::kGateSlots * k.lanes), T(0));
    next = Guarded<T>(h.size(), T(0));
    reset = Guarded<T>(h.size(), T(0));
    output = Guarded<T>(n(s.rows, s.hidden), T(0));
  }

  int elements(int depth) const { return (depth + k.per_element - 1) / k.per_element; }
  Guarded<T> random_weights(std::mt19937& generator, int depth) const {
    Guarded<T> w(random_values(generator, static_cast<std::size_t>(padded) * 3 * elements(depth)));
    if constexpr (std::is_same_v<T, float>) {
      for (std::size_t i = 0; k.per_element == 2 && i < w.size(); ++i) {
        // Nobody may multiply the partner of a last even k.
        const bool partner =
            static_cast<int>(i / (3 * static_cast<std::size_t>(k.lanes))) % elements(depth) * 2 + 1 < depth;
        const std::uint32_t upper = partner ? random_bfloat(generator) : 0x7fc0U;
        w[i] = std::bit_cast<float>(random_bfloat(generator) | upper << 16U);
      }
    }
    return w;
  }
  // Element of a packed matrix (blocks, elements(depth), 3, lanes).
  double weight(const Guarded<T>& w, int depth, int gate, int unit, int column) const {
    const T element =
        w[((static_cast<std::size_t>(unit / k.lanes) * elements(depth) + column / k.per_element) * 3 + gate) * k.lanes +
          unit % k.lanes];
    if constexpr (std::is_same_v<T, float>) {
      const auto bits = std::bit_cast<std::uint32_t>(element);
      if (k.per_element == 2) return std::bit_cast<float>(column % 2 == 0 ? bits << 16U : bits & 0xffff0000U);
    }
    return element;
  }
  double input_part(int step, int row, int gate, int unit) const {
    double sum = b_ih[(static_cast<std::size_t>(unit / k.lanes) * 3 + gate) * k.lanes + unit % k.lanes];
    for (int i = 0; i < s.features; ++i) {
      sum +=
          weight(w_ih, s.features, gate, unit, i) * x[(static_cast<std::size_t>(step) * s.rows + row) * s.features + i];
    }
    return sum;
  }
  double state_part(const Guarded<T>& v, int row, int gate, int unit) const {
    double sum = gate == 2 ? b_hn[unit] : 0.0;
    for (int i = 0; i < s.hidden; ++i) {
      sum += weight(w_hh, s.hidden, gate, unit, i) * v[static_cast<std::size_t>(row) * padded + i];
    }
    return sum;
  }
  T gate(int step, int row, int gate_index, int unit) const {
    const std::size_t block = static_cast<std::size_t>(unit / k.lanes) * s.steps * s.rows;
    return gates[((block + static_cast<std::size_t>(step) * s.rows + row) * gru::simd::kGateSlots + gate_index) *
                     k.lanes +
                 unit % k.lanes];
  }

  void project(int block_begin, int block_end) { k.project(project_args(block_begin, block_end)); }
  gru::simd::ProjectArgs<T> project_args(int block_begin, int block_end) {
    gru::simd::ProjectArgs<T> a;
    a.weights = w_ih.data();
    a.bias = b_ih.data();
    a.x = {x.data(), static_cast<std::ptrdiff_t>(s.rows) * s.features, s.features, 1};
    a.steps = s.steps;
    a.rows = s.rows;
    a.features = s.features;
    a.gates = gates.data();
    a.gates_block = static_cast<std::ptrdiff_t>(s.steps) * s.rows * gru::simd::kGateSlots * k.lanes;
    a.block_begin = block_begin;
    a.block_end = block_end;
    return a;
  }
  template <class Step>
  void step_of(bool descending, const Step& step) {
    gru::simd::StepArgs<T> a = step_args();
    a.descending = descending;
    step(a);
  }
  gru::simd::StepArgs<T> step_args() {
    gru::simd::StepArgs<T> a;
    a.weights = w_hh.data();
    a.bias = b_hn.data();
    a.gates = gates.data();
    a.gates_block = static_cast<std::ptrdiff_t>(s.steps) * s.rows * gru::simd::kGateSlots * k.lanes;
    a.state = h.data();
    a.next = next.data();
    a.reset = reset.data();
    a.state_row = padded;
    a.output = output.data();
    a.output_row = s.hidden;
    a.rows = s.rows;
    a.hidden = s.hidden;
    a.block_begin = 0;
    a.block_end = blocks;
    return a;
  }
};

const std::vector<Sizes> kSizes{{1, 1, 1, 1},
                                {1, 1, 5, 16},
                                {2, 1, 3, 17},
                                {1, 3, 7, 70},
                                {3, 2, 4, 33},
                                {7, 2, 20, 40},
                                {8, 1, 9, 64},
                                {9, 3, 31, 48},
                                {17, 1, 130, 20},
                                {10, 2, 400, 16},
                                {5, 4, 513, 24},
                                {1, 1, 300, 260},
                                {2, 2, 64, 100},
                                {13, 1, 16, 530},
                                // Long sums, made of parts.
                                {1, 1, 2500, 40},
                                {2, 1, 2049, 36},
                                {9, 1, 2500, 10}};

/// Sums of n products of numbers up to 1: half an ulp each, and the polynomial's few.
template <class T>
double tolerance(int n) {
  return static_cast<double>(std::numeric_limits<T>::epsilon()) * (n + 16);
}

TEST_CASE_TEMPLATE("simd: the projection is W x + b for every step and row", T, float, double) {
  for (const auto* kernels : all_kernels<T>()) {
    for (const Sizes& s : kSizes) {
      Fixture<T> f(*kernels, s, 1);
      f.project(0, f.blocks);
      double worst = 0;
      for (int t = 0; t < s.steps; ++t) {
        for (int r = 0; r < s.rows; ++r) {
          for (int g = 0; g < 3; ++g) {
            for (int u = 0; u < f.padded; ++u) {
              worst = std::max(worst, std::abs(f.gate(t, r, g, u) - f.input_part(t, r, g, u)));
            }
          }
        }
      }
      INFO(kernels->name << " k's " << kernels->per_element << " rows " << s.rows << " features " << s.features
                         << " hidden " << s.hidden);
      CHECK(worst <= tolerance<T>(s.features));
    }
  }
}

TEST_CASE_TEMPLATE("simd: a step is the cell's equations, reset after and before", T, float, double) {
  for (const auto* kernels : all_kernels<T>()) {
    for (const Sizes& s : kSizes) {
      for (const bool after : {true, false}) {
        Fixture<T> f(*kernels, s, 2);
        f.project(0, f.blocks);
        const auto args = f.step_args();
        if (after) {
          kernels->step(args);
        } else {
          kernels->reset_step(args);
          kernels->update_step(args);
        }
        double worst = 0;
        for (int r = 0; r < s.rows; ++r) {
          for (int u = 0; u < s.hidden; ++u) {
            const double old = f.h[static_cast<std::size_t>(r) * f.padded + u];
            const double reset = sigmoid(f.input_part(0, r, 0, u) + f.state_part(f.h, r, 0, u));
            const double z = sigmoid(f.input_part(0, r, 1, u) + f.state_part(f.h, r, 1, u));
            const double product = after ? reset * f.state_part(f.h, r, 2, u) : f.state_part(f.reset, r, 2, u);
            const double want = (1 - z) * std::tanh(f.input_part(0, r, 2, u) + product) + z * old;
            const double got = f.next[static_cast<std::size_t>(r) * f.padded + u];
            worst = std::max(worst, std::abs(got - want));
            CHECK(f.output[static_cast<std::size_t>(r) * s.hidden + u] ==
                  f.next[static_cast<std::size_t>(r) * f.padded + u]);
          }
        }
        INFO(kernels->name << " k's " << kernels->per_element << " rows " << s.rows << " hidden " << s.hidden
                           << " reset " << (after ? "after" : "before"));
        CHECK(worst <= tolerance<T>(s.features + s.hidden));
      }
    }
  }
}

TEST_CASE_TEMPLATE("simd: a projection beside a step changes no bit of either", T, float, double) {
  for (const auto* kernels : all_kernels<T>()) {
    if (kernels->step_beside == nullptr) continue;
    // Tiles that outlast the step's blocks, that end before them, and a last one of fewer steps than rows.
    for (const Sizes& s : {Sizes{1, 8, 5, 8}, Sizes{1, 21, 130, 16}, Sizes{1, 16, 3, 160}, Sizes{1, 40, 80, 264}}) {
      Fixture<T> apart(*kernels, s, 4);
      apart.project(0, apart.blocks);
      const std::vector<T> projected(apart.gates.data(), apart.gates.data() + apart.gates.size());
      const int tiles = apart.blocks * ((s.steps + kernels->max_rows - 1) / kernels->max_rows);
      for (const int calls : {1, 3}) {
        for (const bool descending : {false, true}) {
          INFO(kernels->name << " features " << s.features << " hidden " << s.hidden << " calls " << calls);
          Fixture<T> together(*kernels, s, 4);
          Guarded<T> beside(together.gates.size(), T(0));
          gru::simd::BesideArgs<T> args{together.project_args(0, together.blocks)};
          args.project.gates = beside.data();
          for (int i = 0; i < calls; ++i) {
            std::ranges::copy(projected, together.gates.data());
            std::ranges::copy(projected, apart.gates.data());
            apart.step_of(descending, [&](const auto& a) { kernels->step(a); });
            args.tile = tiles * i / calls;
            args.tile_end = tiles * (i + 1) / calls;
            together.step_of(descending, [&](const auto& a) { kernels->step_beside(a, args); });
            CHECK(together.next == apart.next);
            CHECK(together.output == apart.output);
          }
          CHECK(std::equal(projected.begin(), projected.end(), beside.data()));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("simd: how blocks and rows are shared out changes no bit", T, float, double) {
  for (const auto* kernels : all_kernels<T>()) {
    for (const Sizes& s : kSizes) {
      Fixture<T> whole(*kernels, s, 3);
      whole.project(0, whole.blocks);
      auto args = whole.step_args();
      kernels->step(args);

      Fixture<T> parts(*kernels, s, 3);
      for (int b = 0; b < parts.blocks; ++b) parts.project(b, b + 1);
      for (int r = 0; r < s.rows; ++r) {
        for (int b = parts.blocks - 1; b >= 0; --b) {
          auto one = parts.step_args();
          one.gates += static_cast<std::ptrdiff_t>(r) * gru::simd::kGateSlots * kernels->lanes;
          one.state += r * one.state_row;
          one.next += r * one.state_row;
          one.output += r * one.output_row;
          one.rows = 1;
          one.block_begin = b;
          one.block_end = b + 1;
          kernels->step(one);
        }
      }
      INFO(kernels->name << " k's " << kernels->per_element << " rows " << s.rows << " hidden " << s.hidden);
      CHECK(whole.next == parts.next);
      CHECK(whole.output == parts.output);
    }
  }
}

TEST_CASE_TEMPLATE("simd: the step with its input is projection and step, bit for bit", T, float, double) {
  for (const auto* kernels : all_kernels<T>()) {
    for (const Sizes& s : kSizes) {
      const bool short_sums = s.features <= kernels->max_depth && s.hidden <= kernels->max_depth;
      if (!short_sums && (s.rows > kernels->max_rows || s.features > gru::simd::kLongestChain)) continue;
      Fixture<T> apart(*kernels, s, 5);
      apart.project(0, apart.blocks);
      kernels->step(apart.step_args());
      Fixture<T> fused(*kernels, s, 5);
      auto args = fused.step_args();
      args.input_weights = fused.w_ih.data();
      args.input_bias = fused.b_ih.data();
      args.x = {fused.x.data(), 0, s.features, 1};
      args.features = s.features;
      args.descending = true;
      kernels->step_with_input(args);
      INFO(kernels->name << " k's " << kernels->per_element << " rows " << s.rows << " features " << s.features
                         << " hidden " << s.hidden);
      CHECK(apart.next == fused.next);
      CHECK(apart.output == fused.output);
    }
  }
}

TEST_CASE_TEMPLATE("simd: rows in another order are the rows that it names, bit for bit", T, float, double) {
  for (const auto* kernels : all_kernels<T>()) {
    for (const Sizes& s : kSizes) {
      std::vector<std::int32_t> order(static_cast<std::size_t>(s.rows));
      for (int i = 0; i < s.rows; ++i) order[static_cast<std::size_t>(i)] = (i * 5 + 3) % s.rows;
      if (s.rows % 5 == 0) continue;  // no order then
      Fixture<T> plain(*kernels, s, 6);
      Fixture<T> ordered(*kernels, s, 6);
      plain.project(0, plain.blocks);
      auto project = ordered.project_args(0, ordered.blocks);
      project.x.order = order.data();
      kernels->project(project);
      for (int t = 0; t < s.steps; ++t) {
        for (int r = 0; r < s.rows; ++r) {
          const auto from = static_cast<int>(order[static_cast<std::size_t>(r)]);
          bool same = true;
          for (int g = 0; g < 3; ++g) {
            for (int u = 0; u < s.hidden; ++u) same = same && ordered.gate(t, r, g, u) == plain.gate(t, from, g, u);
          }
          CHECK(same);
        }
      }
      for (const bool fused : {false, true}) {
        if (fused && (s.rows > kernels->max_rows || s.features > gru::simd::kLongestChain)) continue;
        Fixture<T> want(*kernels, s, 7);  // x and output as they are, states in order: as if all had been copied
        Fixture<T> got(*kernels, s, 7);
        for (int r = 0; r < s.rows; ++r) {
          const auto from = static_cast<std::ptrdiff_t>(order[static_cast<std::size_t>(r)]) * s.features;
          std::copy(got.x.data() + from, got.x.data() + from + s.features,
                    want.x.data() + std::ptrdiff_t{r} * s.features);
        }
        for (Fixture<T>* f : {&want, &got}) {
          auto args = f->step_args();
          args.input_weights = f->w_ih.data();
          args.input_bias = f->b_ih.data();
          args.x = {f->x.data(), 0, s.features, 1, f == &got ? order.data() : nullptr};
          args.features = s.features;
          args.output_order = f == &got ? order.data() : nullptr;
          if (fused) {
            kernels->step_with_input(args);
          } else {
            auto first = f->project_args(0, f->blocks);
            first.x = args.x;
            first.steps = 1;
            kernels->project(first);
            kernels->step(args);
          }
        }
        INFO(kernels->name << " rows " << s.rows << " features " << s.features << " hidden " << s.hidden);
        CHECK(want.next == got.next);
        bool same = true;
        for (int r = 0; r < s.rows; ++r) {
          for (int u = 0; u < s.hidden; ++u) {
            const auto to = static_cast<std::size_t>(order[static_cast<std::size_t>(r)]);
            same = same && got.output[to * s.hidden + u] == want.output[static_cast<std::size_t>(r) * s.hidden + u];
          }
        }
        CHECK(same);
      }
    }
  }
}

TEST_CASE_TEMPLATE("simd: an ended row keeps its state, outputs 0 and ignores NaN", T, float, double) {
  for (const auto* kernels : all_kernels<T>()) {
    const Sizes s{3, 1, 4, 21};
    Fixture<T> f(*kernels, s, 4);
    for (int i = 0; i < s.features; ++i)
      f.x[static_cast<std::size_t>(s.features) + i] = std::numeric_limits<T>::quiet_NaN();
    f.project(0, f.blocks);
    const std::vector<std::int32_t> lengths{6, 5, 9};
    f.output = Guarded<T>(static_cast<std::size_t>(s.rows) * s.hidden * 2, T(-1));
    auto args = f.step_args();
    args.lengths = lengths.data();
    args.time = 5;
    args.output_feature = 2;
    args.output_row = 2 * s.hidden;
    kernels->step(args);
    for (int u = 0; u < s.hidden; ++u) {
      CHECK(f.next[static_cast<std::size_t>(f.padded) + u] == f.h[static_cast<std::size_t>(f.padded) + u]);
      CHECK(f.output[static_cast<std::size_t>(s.hidden) * 2 + 2 * u] == T(0));
      CHECK(f.output[static_cast<std::size_t>(s.hidden) * 2 + 2 * u + 1] == T(-1));
      CHECK(std::isfinite(f.next[u]));
      CHECK(f.output[static_cast<std::size_t>(2) * u] == f.next[u]);
    }
  }
}

TEST_CASE("simd: GRU_SIMD chooses, and what is not there is refused by name") {
  const auto found = gru::simd::available_kernels<float>();
  setenv("GRU_SIMD", "generic", 1);
  CHECK(std::string(gru::simd::select_kernels<float>().name) == "generic");
  setenv("GRU_SIMD", "vax", 1);
  CHECK_THROWS_WITH_AS(gru::simd::select_kernels<float>(), doctest::Contains("GRU_SIMD=vax"), gru::Error);
  unsetenv("GRU_SIMD");
  CHECK(&gru::simd::select_kernels<float>() == found.front());
}

}  // namespace
