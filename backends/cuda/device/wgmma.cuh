// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Matrix products of four warps that read both operands from shared memory (wgmma: sm_90a alone).

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "backends/cuda/device/shared_address.cuh"
#include "gru/half.hpp"

namespace gru::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// A K-major operand of rows of 128 bytes whose 16-byte pieces are permuted within groups of eight rows (piece ^ row %
/// 8): the 128-byte swizzle, groups 1024 bytes apart. Eight TF32 features, or 16 of 16 bits, further: + 2.
__device__ inline std::uint64_t wgmma_descriptor(const void* shared) {
  const std::uint64_t address = shared_address(shared);
  return (address & 0x3ffffU) >> 4U | std::uint64_t{1} << 16U | std::uint64_t{1024 >> 4} << 32U |
         std::uint64_t{1} << 62U;
}

/// Its two halves apart: the first counts 16 bytes, so that a kernel moves on by a sum of 32 bits.
__device__ inline unsigned wgmma_place(unsigned shared) { return (shared & 0x3ffffU) >> 4U | 1U << 16U; }
/// kParts: groups of eight rows of so many operands lie in turn, 1024 bytes each; the second one's: + 64.
template <int kParts = 1>
__device__ std::uint64_t wgmma_descriptor_at(unsigned place) {
  return static_cast<std::uint64_t>(kParts * 1024U >> 4U | 1U << 30U) << 32U | place;
}

/// Registers move from the producer's warps to the multiplying ones; both numbers are multiples of 8.
template <int kRegisters>
__device__ void keep_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

__device__ inline void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// d (64 x 48) = a (64 x 8) b (48 x 8)^T, plus d if `add`; TF32 products; a and b: shared-memory descriptors.
__device__ inline void wgmma(float (&d)[24], std::uint64_t a, std::uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %26, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n48k8.f32.tf32.tf32 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "
      "%20, %21, %22, %23}, "
      "%24, %25, add, 1, 1;\n}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23])
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

/// d (64 x 48) = a (64 x 16) b (48 x 16)^T, plus d if `add`; products of Element, float16 or bfloat16.
template <class Element>
__device__ void wgmma_half(float (&d)[24], std::uint64_t a, std::uint64_t b, bool add) {
#define GRU_WGMMA_M64N48K16(types)                                                                                  \
  asm volatile(                                                                                                     \
      "{\n.reg .pred add;\nsetp.ne.b32 add, %26, 0;\n"                                                              \
      "wgmma.mma_async.sync.aligned.m64n48k16.f32." types                                                           \
      " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "                \
      "%20, %21, %22, %23}, "                                                                                       \
      "%24, %25, add, 1, 1, 0, 0;\n}"                                                                               \
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), \
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),      \
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23])                   \
      : "l"(a), "l"(b), "r"(static_cast<int>(add)))
  if constexpr (std::is_same_v<Element, BFloat16>)
    GRU_WGMMA_M64N48K16("bf16.bf16");
  else
    GRU_WGMMA_M64N48K16("f16.f16");
#undef GRU_WGMMA_M64N48K16
}

/// d (64 x 192) = a (64 x 8) b (192 x 8)^T, plus d if `add`; TF32 products; a and b: shared-memory descriptors.
__device__ inline void wgmma(float (&d)[96], std::uint64_t a, std::uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %98, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n192k8.f32.tf32.tf32 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "
      "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, "
      "%40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, "
      "%60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95}, "
      "%96, %97, add, 1, 1;\n}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]),
        "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]),
        "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
        "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),
        "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]), "+f"(d[64]),
        "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]), "+f"(d[72]),
        "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]), "+f"(d[80]),
        "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]), "+f"(d[88]),
        "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95])
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

// The operands of a product that adds: 24, 48 or 96 sums a thread, then two descriptors.
#define GRU_SUMS_8(i)                                                                                         \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])
#define GRU_SUMS_24(i) GRU_SUMS_8(i), GRU_SUMS_8(i + 8), GRU_SUMS_8(i + 16)
#define GRU_SUMS_48(i) GRU_SUMS_24(i), GRU_SUMS_24(i + 24)
#define GRU_SUMS_96(i) GRU_SUMS_48(i), GRU_SUMS_48(i + 48)
#define GRU_NAMES_24 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23"
#define GRU_NAMES_48                                                                                       \
  GRU_NAMES_24                                                                                             \
  ", %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, " \
  "%44, %45, %46, %47"
#define GRU_NAMES_96                                                                                     \
  GRU_NAMES_48                                                                                           \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, "    \
  "%67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, " \
  "%87, %88, %89, %90, %91, %92, %93, %94, %95"
#define GRU_WGMMA(shape, types, tail, names, sums, first, second)                                       \
  asm volatile("wgmma.mma_async.sync.aligned." shape ".f32." types " {" names "}, %" first ", %" second \
               ", 1, 1, 1" tail ";"                                                                     \
               : sums(0)                                                                                \
               : "l"(a), "l"(b))
#define GRU_WGMMA_OF(n, names, sums, first, second)                               \
  if constexpr (std::is_same_v<Element, float>)                                   \
    GRU_WGMMA("m64n" n "k8", "tf32.tf32", "", names, sums, first, second);        \
  else if constexpr (std::is_same_v<Element, BFloat16>)                           \
    GRU_WGMMA("m64n" n "k16", "bf16.bf16", ", 0, 0", names, sums, first, second); \
  else                                                                            \
    GRU_WGMMA("m64n" n "k16", "f16.f16", ", 0, 0", names, sums, first, second)

/// d (64 x 48, 96 or 192) += a b^T over 32 bytes of a row's features: eight of TF32 (Element float) or 16 of 16 bits; a and b:
/// shared-memory descriptors.
template <class Element>
__device__ void wgmma_of(float (&d)[24], std::uint64_t a, std::uint64_t b) {
  GRU_WGMMA_OF("48", GRU_NAMES_24, GRU_SUMS_24, "24", "25");
}
template <class Element>
__device__ void wgmma_of(float (&d)[48], std::uint64_t a, std::uint64_t b) {
  GRU_WGMMA_OF("96", GRU_NAMES_48, GRU_SUMS_48, "48", "49");
}
template <class Element>
__device__ void wgmma_of(float (&d)[96], std::uint64_t a, std::uint64_t b) {
  GRU_WGMMA_OF("192", GRU_NAMES_96, GRU_SUMS_96, "96", "97");
}

#undef GRU_WGMMA_OF
#undef GRU_WGMMA
#undef GRU_NAMES_96
#undef GRU_NAMES_48
#undef GRU_NAMES_24
#undef GRU_SUMS_96
#undef GRU_SUMS_48
#undef GRU_SUMS_24
#undef GRU_SUMS_8

#endif

}  // namespace gru::cuda
