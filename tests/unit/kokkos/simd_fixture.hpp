// SPDX-License-Identifier: Apache-2.0
#pragma once

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
#include <type_traits>
#include <vector>

#include "backends/kokkos/simd/select.hpp"

// One projection and one step in packed buffers, and what they are by plain loops in double.
namespace gru::test::simd {

inline std::vector<double> random_values(std::mt19937& generator, std::size_t n) {
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

inline double sigmoid(double v) { return 1 / (1 + std::exp(-v)); }

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
inline std::uint32_t random_bfloat(std::mt19937& generator) {
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

inline const std::vector<Sizes> kSizes{{1, 1, 1, 1},
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

}  // namespace gru::test::simd
