#pragma once
#include "backends/cuda/device/dependent_launch.cuh"
#include "backends/cuda/persistent/args.hpp"

namespace gru::cuda {

/// Clusters of blocks with shared memory in common: sm_90 and later. Elsewhere the instructions below must not be emitted.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
inline constexpr bool kHasClusters = true;
#else
inline constexpr bool kHasClusters = false;
#endif

__device__ __forceinline__ unsigned load_relaxed(const std::uint32_t* p) {
  unsigned v;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
/// Not an atomic operation, which not every host's memory takes from a device.
__device__ __forceinline__ void store_relaxed(std::uint32_t* p, std::uint32_t value) {
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(p), "r"(value) : "memory");
}
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

/// Bounds every wait. The 32 lanes of a warp wait together; after the limit the warp stops waiting for good and says so
/// in the abort word. The loops run on with whatever data is there, so nobody who waits for this warp hangs either.
template <class Args>
struct SpinGuard {
  const Args& a;
  bool gave_up = false;  // the same in all lanes

  /// `ready` polls for this lane and says whether its data is there.
  template <class Ready>
  __device__ __forceinline__ void wait(Ready&& ready) {
    if (__all_sync(~0U, ready()) || gave_up) return;
    long long spins = 1;
    do {
      if (spins >= a.spin_limit) store_relaxed(a.aborted, 1U);
      if (spins >= a.spin_limit || (spins % 4096 == 0 && __any_sync(~0U, load_relaxed(a.aborted) != 0))) {
        gave_up = true;
        return;
      }
      ++spins;
    } while (!__all_sync(~0U, ready()));
  }
};

__device__ __forceinline__ void copy_async16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(to))),
               "l"(from)
               : "memory");
}
__device__ __forceinline__ void prefetch_to_l2(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }
__device__ __forceinline__ void copy_async16_if(bool wanted, void* to, const void* from) {
  asm volatile(
      "{.reg .pred p; setp.ne.u32 p, %0, 0; @p cp.async.cg.shared.global [%1], [%2], 16;}" ::"r"(unsigned{wanted}),
      "r"(static_cast<unsigned>(__cvta_generic_to_shared(to))), "l"(from)
      : "memory");
}
__device__ __forceinline__ void prefetch_to_l2_if(bool wanted, const void* p) {
  asm volatile("{.reg .pred p; setp.ne.u32 p, %0, 0; @p prefetch.global.L2 [%1];}" ::"r"(unsigned{wanted}), "l"(p));
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most N of this thread's copy groups are under way.
template <int N>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
__device__ __forceinline__ unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}
/// Has `v` computed here: the compiler would do it where it is used, behind the wait that it should hide under.
__device__ __forceinline__ void compute_now(int& v) { asm volatile("" : "+r"(v)); }
__device__ __forceinline__ void compute_now(unsigned& v) { asm volatile("" : "+r"(v)); }
__device__ __forceinline__ void compute_now(long long& v) { asm volatile("" : "+l"(v)); }
__device__ __forceinline__ void barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
/// The same, for warps that come to the barrier from different places: of bar.sync (barrier.sync.aligned) compute-sanitizer's
/// synccheck takes that for divergence.
template <int Id, int Threads>
__device__ __forceinline__ void barrier_sync_anywhere() {
  asm volatile("barrier.sync %0, %1;" ::"n"(Id), "n"(Threads) : "memory");
}
__device__ __forceinline__ void barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void mbarrier_init(unsigned bar, unsigned count) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory");
}
__device__ __forceinline__ void mbarrier_expect(unsigned bar, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
/// Waits a while. What peers sent lies in this block's own shared memory, which no cache shadows, so acquiring at the
/// block's scope is enough; at the cluster's scope it would empty the L1 cache each time.
__device__ __forceinline__ bool mbarrier_try(unsigned bar, unsigned phase) {
  unsigned ok;
  asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
               : "=r"(ok)
               : "r"(bar), "r"(phase)
               : "memory");
  return ok != 0;
}
__device__ __forceinline__ unsigned map_rank(unsigned address, int rank) {
  unsigned r;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(address), "r"(rank));
  return r;
}
__device__ __forceinline__ void store_async4(unsigned remote, float4 v, unsigned remote_bar) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(remote),
      "r"(__float_as_uint(v.x)), "r"(__float_as_uint(v.y)), "r"(__float_as_uint(v.z)), "r"(__float_as_uint(v.w)),
      "r"(remote_bar)
      : "memory");
}
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ __forceinline__ void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

}  // namespace gru::cuda
