// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Loads and stores of words (words.hpp) that other blocks poll for, and plain stores beside them.

#include "backends/cuda/device/words.hpp"

namespace gru::cuda {

/// Two epoch-tagged values; each half is one 64-bit access and vouches for itself.
__device__ __forceinline__ uint4 load_pair(const EpochValue* p) {
  unsigned long long a, b;
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];" : "=l"(a), "=l"(b) : "l"(p) : "memory");
  return make_uint4(unsigned(a), unsigned(a >> 32), unsigned(b), unsigned(b >> 32));
}
__device__ __forceinline__ void store_value(EpochValue* p, float value, unsigned epoch) {
  const unsigned long long word = (static_cast<unsigned long long>(epoch) << 32) | __float_as_uint(value);
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(p), "l"(word) : "memory");
}
/// For an address that has been through an integer, where the compiler would store to memory of an unknown kind.
__device__ __forceinline__ void store_global(std::uint64_t address, float value) {
  asm volatile("st.global.f32 [%0], %1;" ::"l"(address), "f"(value) : "memory");
}
/// The same or nothing: a predicate, where a branch would cost two dozen clocks.
__device__ __forceinline__ void store_value_if(bool wanted, std::uint64_t address, float value, unsigned epoch) {
  const unsigned long long word = (static_cast<unsigned long long>(epoch) << 32) | __float_as_uint(value);
  asm volatile("{.reg .pred p; setp.ne.u32 p, %0, 0; @p st.relaxed.gpu.global.u64 [%1], %2;}" ::"r"(unsigned{wanted}),
               "l"(address), "l"(word)
               : "memory");
}
__device__ __forceinline__ void store_global_if(bool wanted, std::uint64_t address, float value) {
  asm volatile("{.reg .pred p; setp.ne.u32 p, %0, 0; @p st.global.f32 [%1], %2;}" ::"r"(unsigned{wanted}), "l"(address),
               "f"(value)
               : "memory");
}
__device__ __forceinline__ void store_global_if(bool wanted, std::uint64_t address, float4 v) {
  asm volatile(
      "{.reg .pred p; setp.ne.u32 p, %0, 0; @p st.global.v4.f32 [%1], {%2, %3, %4, %5};}" ::"r"(unsigned{wanted}),
      "l"(address), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
      : "memory");
}
__device__ __forceinline__ float4 load_gate_input(const GateInput* p) {
  unsigned long long lo, hi;
  asm volatile("{.reg .b128 v; ld.relaxed.gpu.global.b128 v, [%2]; mov.b128 {%0, %1}, v;}"
               : "=l"(lo), "=l"(hi)
               : "l"(p)
               : "memory");
  return make_float4(__uint_as_float(unsigned(lo)), __uint_as_float(unsigned(lo >> 32)), __uint_as_float(unsigned(hi)),
                     __uint_as_float(unsigned(hi >> 32)));
}
__device__ __forceinline__ void store_gate_input(GateInput* p, float r, float z, float n, unsigned epoch) {
  const unsigned long long lo = (static_cast<unsigned long long>(__float_as_uint(z)) << 32) | __float_as_uint(r);
  const unsigned long long hi = (static_cast<unsigned long long>(epoch) << 32) | __float_as_uint(n);
  asm volatile("{.reg .b128 v; mov.b128 v, {%1, %2}; st.relaxed.gpu.global.b128 [%0], v;}" ::"l"(p), "l"(lo), "l"(hi)
               : "memory");
}

}  // namespace gru::cuda
