// SPDX-License-Identifier: Apache-2.0
#include "tests/support/field.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "src/format.hpp"

namespace gru::test {
namespace {

constexpr std::byte kGuard{0xFF};
constexpr std::int64_t kGuardElements = 7;  // odd: the first element is aligned to its own size and no more

template <class T, class Value>
void store(std::byte* to, Value value) {
  const T typed = static_cast<T>(value);
  std::memcpy(to, &typed, sizeof typed);
}

template <class T>
T load(const std::byte* from) {
  T typed;
  std::memcpy(&typed, from, sizeof typed);
  return typed;
}

template <class T>
double fetch(const std::byte* from) {
  return static_cast<double>(load<T>(from));
}

}  // namespace

Layout random_layout(std::mt19937_64& engine) {
  Layout layout;
  std::ranges::shuffle(layout.order, engine);
  for (auto& pad : layout.pad) pad = static_cast<std::int64_t>(engine() % 4);
  for (bool& backward : layout.backward) backward = engine() % 3 == 0;
  layout.step = engine() % 3 == 0 ? 2 : 1;
  return layout;
}

std::string describe(const Layout& layout) {
  return fmt::format("order {} pad {} backward {} step {}", fmt::join(layout.order, ""), fmt::join(layout.pad, ","),
                     fmt::join(layout.backward, ","), layout.step);
}

Field::Field(DType dtype, std::vector<std::int64_t> extents, const Layout& layout)
    : dtype_(dtype), rank_(static_cast<int>(extents.size())), offset_(kGuardElements) {
  std::ranges::copy(extents, extents_.begin());
  std::int64_t stride = layout.step;
  for (auto d = layout.order.rbegin(); d != layout.order.rend(); ++d) {
    if (*d >= rank_) continue;
    const auto i = static_cast<std::size_t>(*d);
    strides_[i] = layout.backward[i] ? -stride : stride;
    if (layout.backward[i]) offset_ += stride * std::max<std::int64_t>(extents_[i] - 1, 0);
    stride *= extents_[i] + layout.pad[i];
  }
  const std::int64_t elements = stride + 2 * kGuardElements;
  memory_.assign(static_cast<std::size_t>(elements) * size_of(dtype), kGuard);
}

std::int64_t Field::size() const { return view_at(nullptr).size(); }

template <class Visit>
void Field::for_each(const Visit& visit) const {
  std::int64_t index = 0;
  const auto extent = [&](int d) { return d < rank_ ? extents_[static_cast<std::size_t>(d)] : 1; };
  for (std::int64_t i = 0; i < extent(0); ++i) {
    for (std::int64_t j = 0; j < extent(1); ++j) {
      for (std::int64_t k = 0; k < extent(2); ++k, ++index) {
        const std::int64_t at = offset_ + i * strides_[0] + j * strides_[1] + k * strides_[2];
        visit(static_cast<std::size_t>(index), static_cast<std::size_t>(at) * size_of(dtype_));
      }
    }
  }
}

void Field::assign(const std::vector<double>& values) {
  for_each([&](std::size_t i, std::size_t at) {
    std::byte* to = memory_.data() + at;
    switch (dtype_) {
      case DType::float32: store<float>(to, values.at(i)); break;
      case DType::float64: store<double>(to, values.at(i)); break;
      case DType::float16: store<Float16>(to, rounded_to<Float16>(static_cast<float>(values.at(i)))); break;
      case DType::bfloat16: store<BFloat16>(to, rounded_to<BFloat16>(static_cast<float>(values.at(i)))); break;
      case DType::int32: store<std::int32_t>(to, values.at(i)); break;
      default: store<std::int64_t>(to, values.at(i)); break;
    }
  });
}

std::vector<double> Field::values() const {
  std::vector<double> values(given() ? static_cast<std::size_t>(size()) : 0);
  if (!given()) return values;
  for_each([&](std::size_t i, std::size_t at) {
    const std::byte* from = memory_.data() + at;
    switch (dtype_) {
      case DType::float32: values[i] = fetch<float>(from); break;
      case DType::float64: values[i] = fetch<double>(from); break;
      case DType::float16: values[i] = to_float(load<Float16>(from)); break;
      case DType::bfloat16: values[i] = to_float(load<BFloat16>(from)); break;
      case DType::int32: values[i] = fetch<std::int32_t>(from); break;
      default: values[i] = fetch<std::int64_t>(from); break;
    }
  });
  return values;
}

bool Field::surroundings_untouched() const {
  if (!given()) return true;
  std::vector<bool> element(memory_.size(), false);
  for_each([&](std::size_t, std::size_t at) {
    for (std::size_t b = 0; b < size_of(dtype_); ++b) element[at + b] = true;
  });
  for (std::size_t i = 0; i < memory_.size(); ++i) {
    if (!element[i] && memory_[i] != kGuard) return false;
  }
  return true;
}

bool Field::untouched() const {
  return std::ranges::all_of(memory_, [](std::byte b) { return b == kGuard; });
}

TensorView Field::view_at(void* base) const {
  if (!given()) return {};
  auto* first =
      base == nullptr ? nullptr : static_cast<std::byte*>(base) + offset_ * static_cast<std::int64_t>(size_of(dtype_));
  return {first, dtype_, rank_, extents_, strides_};
}

}  // namespace gru::test
