// SPDX-License-Identifier: Apache-2.0
#include "backends/kokkos/simd/select.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdlib>
#include <string>
#include <type_traits>

#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru::simd {
namespace {

template <class T>
const Kernels<T>* pick(Storage storage, const Kernels<float>& f, const Kernels<float>& b, const Kernels<double>& d) {
  if constexpr (std::is_same_v<T, float>) {
    return storage == Storage::bfloat ? &b : &f;
  } else {
    if (storage == Storage::bfloat) throw Error("gru::simd: kernels for bfloat16 weights compute in float32 only");
    return &d;
  }
}

#if defined(__x86_64__)
/// Conversions of float16, which each processor with AVX2 has; not every compiler's check knows them.
[[maybe_unused]] bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

/// What available_kernels gives, in no memory of the heap.
template <class T>
struct Found {
  const Kernels<T>* list[3];
  std::size_t count = 0;

  void push_back(const Kernels<T>* kernels) { list[count++] = kernels; }
  const Kernels<T>* const* begin() const { return list; }
  const Kernels<T>* const* end() const { return list + count; }
};

template <class T>
Found<T> find_kernels(Storage storage) {
  Found<T> found;
#if defined(__x86_64__)
  // The features that gru_add_simd_source compiles for; the compiler's run-time check includes the operating system's.
  [[maybe_unused]] const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  [[maybe_unused]] const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                                       __builtin_cpu_supports("avx512vl");
#if !defined(GRU_WITHOUT_AVX512)
  if (avx512) found.push_back(pick<T>(storage, avx512::kFloat32, avx512::kFloat32Bfloat, avx512::kFloat64));
#endif
#if !defined(GRU_WITHOUT_AVX2)
  if (avx2) found.push_back(pick<T>(storage, avx2::kFloat32, avx2::kFloat32Bfloat, avx2::kFloat64));
#endif
#endif
  found.push_back(pick<T>(storage, generic::kFloat32, generic::kFloat32Bfloat, generic::kFloat64));
  return found;
}

}  // namespace

template <class T>
std::vector<const Kernels<T>*> available_kernels(Storage storage) {
  const Found<T> found = find_kernels<T>(storage);
  return {found.begin(), found.end()};
}

template <class T>
const Kernels<T>& select_kernels(Storage storage) {
  const Found<T> found = find_kernels<T>(storage);
  const char* wanted = std::getenv("GRU_SIMD");
  if (wanted == nullptr || *wanted == '\0') return **found.begin();
  std::string names;
  for (const Kernels<T>* kernels : found) {
    if (std::string_view(kernels->name) == wanted) return *kernels;
    names += (names.empty() ? "" : ", ") + std::string(kernels->name);
  }
  throw Error(fmt::format(
      "gru: GRU_SIMD={} names no instruction set that this machine runs; unset it or choose one of {}", wanted, names));
}

template std::vector<const Kernels<float>*> available_kernels<float>(Storage);
template std::vector<const Kernels<double>*> available_kernels<double>(Storage);
template const Kernels<float>& select_kernels<float>(Storage);
template const Kernels<double>& select_kernels<double>(Storage);

}  // namespace gru::simd
