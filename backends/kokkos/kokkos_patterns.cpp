#include "backends/kokkos/kokkos_patterns.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "backends/kokkos/meeting.hpp"
#include "backends/kokkos/multiply.hpp"
#include "backends/kokkos/pack.hpp"
#include "backends/kokkos/recurrence.hpp"
#include "backends/kokkos/schedule.hpp"
#include "backends/kokkos/simd/select.hpp"
#include "gru/error.hpp"

#if defined(KOKKOS_ENABLE_OPENMP)
#include <omp.h>
#endif

namespace gru {
namespace kokkos {

template <class Space>
class Engine {
 public:
  Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  virtual ~Engine() = default;
  virtual void execute(const Call& call) = 0;
  virtual std::unique_ptr<Engine> fork(const Space& space) const = 0;
  virtual std::size_t workspace_bytes() const = 0;
};

namespace {

constexpr std::int64_t kLargestSize = std::int64_t{1} << 27;  // so that sums of a few sizes stay within 31 bits
constexpr int kPortableLanes = 32;                            // threads of a warp: neighbours load neighbouring weights

/// Whether a static range of no more indices than threads runs with a thread for each index, all at the same time, so
/// that they may wait for each other. Waking threads for a range takes half the time of waking them for teams. Kokkos
/// promises that of teams only, but its OpenMP space runs a range as OpenMP's own loop; inside of a parallel region, or
/// where OpenMP may give fewer threads, it does not.
template <class Space>
bool ranges_run_at_once() {
#if defined(KOKKOS_ENABLE_OPENMP)
  if constexpr (std::is_same_v<Space, Kokkos::OpenMP>) return omp_get_level() == 0 && omp_get_dynamic() == 0;
#endif
  return false;
}

/// Where Kokkos 5 would end the program: called inside of a parallel region, while OpenMP may not nest another.
template <class Space>
void require_nesting([[maybe_unused]] const Space& space) {
#if defined(KOKKOS_ENABLE_OPENMP) && KOKKOS_VERSION >= 50000
  if constexpr (std::is_same_v<Space, Kokkos::OpenMP>) {
    const int level = omp_get_level();
    const bool nests = level == 1 && omp_get_max_active_levels() > 1;
    if (level <= space.impl_internal_space_instance()->get_level() || nests) return;
    throw Error(
        "gru::Plan: expected a call from outside of OpenMP's parallel regions, or from inside of one with "
        "OMP_MAX_ACTIVE_LEVELS=2, got one at level " +
        std::to_string(level) + " of " + std::to_string(omp_get_max_active_levels()) +
        "; plan and execute outside, or give the plan an instance of one thread");
  }
#endif
}

template <class Space, Multiplier M, class T>
class TypedEngine final : public Engine<Space> {
  static constexpr bool kSimd = M == Multiplier::host_simd;
  using Multiply = std::conditional_t<kSimd, HostMultiply<T>, PortableMultiply<T>>;
  using Memory = typename Space::memory_space;
  using Values = Kokkos::View<T*, Memory>;
  using Integers = Kokkos::View<std::int32_t*, Memory>;
  using Policy = Kokkos::TeamPolicy<Space>;
  using OneEach = Kokkos::RangePolicy<Space, Kokkos::Schedule<Kokkos::Static>>;

 public:
  TypedEngine(const Space& space, const Problem& problem, const Weights& weights)
      : space_(space), problem_(problem), multiply_(make_multiply(problem.options.math)) {
    const Config& c = problem.config;
    shape_.input = static_cast<int>(c.input_size);
    shape_.hidden = static_cast<int>(c.hidden_size);
    shape_.layers = static_cast<int>(c.num_layers);
    shape_.directions = static_cast<int>(c.num_directions());
    shape_.lanes = lanes();
    shape_.blocks = (shape_.hidden + shape_.lanes - 1) / shape_.lanes;
    shape_.per_element = per_element();
    shape_.reset_after = c.reset_after;
    weights_ =
        Values(Kokkos::view_alloc(space_, Kokkos::WithoutInitializing, "gru::kokkos::weights"), packed_size(shape_));
    const auto host = Kokkos::create_mirror_view(Kokkos::WithoutInitializing, weights_);
    pack_weights(shape_, weights, host.data());
    Kokkos::deep_copy(space_, weights_, host);
    space_.fence("gru::kokkos::pack");
    allocate();
  }

  /// Shares the packed weights of `other`.
  TypedEngine(const Space& space, const TypedEngine& other)
      : space_(space),
        problem_(other.problem_),
        multiply_(other.multiply_),
        shape_(other.shape_),
        weights_(other.weights_) {
    problem_.device.concurrency = SpaceTraits<Space>::device_info(space).concurrency;
    allocate();
  }

  void execute(const Call& call) override {
    Recurrence<T, Multiply> r;
    r.shape = shape_;
    r.schedule = schedule_;
    r.place = place_;
    r.multiply = multiply_;
    r.weights = weights_.data();
    r.workspace = workspace_.data();
    r.lengths = lengths_.data();
    r.given = {call.lengths.data, call.lengths.strides[0], call.lengths.dtype == DType::int64};
    r.x = strided<const T>(call.x);
    r.h0 = strided<const T>(call.h0);
    r.output = strided<T>(call.output);
    r.h_n = strided<T>(call.h_n);
    r.steps = static_cast<int>(call.x.extents[0]);
    r.batch = static_cast<int>(call.x.extents[1]);
    r.tile_rows = std::min(schedule_.tile_rows, (r.batch + schedule_.teams - 1) / schedule_.teams);
    r.parity = parity_ = 1 - parity_;
    launch(label_, r);
  }

  std::unique_ptr<Engine<Space>> fork(const Space& space) const override {
    return std::make_unique<TypedEngine>(space, *this);
  }

  std::size_t workspace_bytes() const override {
    return workspace_.extent(0) * sizeof(T) + lengths_.extent(0) * sizeof(std::int32_t) +
           meeting_.extent(0) * sizeof(std::uint32_t);
  }

 private:
  static Multiply make_multiply(Math math) {
    if constexpr (kSimd) {
      return {&simd::select_kernels<T>(math == Math::bf16 ? simd::Storage::bfloat : simd::Storage::whole), &meet};
    } else {
      return {kPortableLanes};
    }
  }
  int per_element() const {
    if constexpr (kSimd) {
      return multiply_.kernels->per_element;
    } else {
      return 1;
    }
  }
  int lanes() const {
    if constexpr (kSimd) {
      return multiply_.kernels->lanes;
    } else {
      return multiply_.lanes;
    }
  }
  template <class U, class View>
  static Strided<U> strided(const View& view) {
    return {static_cast<U*>(view.data), {view.strides[0], view.strides[1], view.strides[2]}};
  }

  Schedule make_schedule() const {
    if constexpr (kSimd) {
      const HostTraits host{problem_.device.concurrency,
                            concurrency_of(space_),
                            lanes(),
                            multiply_.kernels->max_rows,
                            sizeof(T),
                            per_element(),
                            host_l2_bytes(),
                            multiply_.kernels->step_beside != nullptr ? simd::kBesideDepth : 0};
      return schedule_for_host(problem_, host);
    } else {
      const Policy probe(space_, 1, 1);
      const int most = probe.team_size_max(Recurrence<T, Multiply>{}, Kokkos::ParallelForTag());
      return schedule_for_device(problem_, lanes(), most);
    }
  }

  void allocate() {
    schedule_ = make_schedule();
    if (schedule_.teams * schedule_.team_size > 1) require_nesting(space_);
    if constexpr (kSimd) one_each_ = OneEach(space_, 0, schedule_.teams * schedule_.team_size);
    if (!as_range()) teams_ = Policy(space_, schedule_.teams, schedule_.team_size);
    place_ = workspace_of(shape_, schedule_, static_cast<int>(problem_.options.seq_len));
    const auto uninitialised = [&](const char* label) {
      return Kokkos::view_alloc(space_, Kokkos::WithoutInitializing, std::string(label));
    };
    workspace_ = Values(uninitialised("gru::kokkos::workspace"),
                        static_cast<std::size_t>(schedule_.teams) * static_cast<std::size_t>(place_.end));
    lengths_ = Integers(uninitialised("gru::kokkos::lengths"), static_cast<std::size_t>(problem_.options.batch_size));
    if constexpr (kSimd) {
      multiply_.meeting_words = meeting_words(schedule_.team_size);
      meeting_ =
          Kokkos::View<std::uint32_t*, Memory>(Kokkos::view_alloc(space_, "gru::kokkos::meeting"),
                                               static_cast<std::size_t>(schedule_.teams) * multiply_.meeting_words);
      multiply_.meeting = meeting_.data();
    }
    launch("gru::kokkos::clear_workspace", ClearWorkspace<T>{workspace_.data(), place_.end});
    space_.fence("gru::kokkos::clear_workspace");
  }

  /// Whether threads are woken as a plain range; else Kokkos' teams.
  static bool as_range() { return kSimd && ranges_run_at_once<Space>(); }

  /// Runs the functor on the schedule's teams. A single thread of a host space needs no dispatch: the space's kernels
  /// run while their caller waits anyway, so the caller's own thread is the space's.
  template <class Functor>
  void launch(const std::string& label, const Functor& functor) const {
    if constexpr (kSimd) {
      if (schedule_.teams * schedule_.team_size == 1) {
        std::uint64_t kernel = 0;
        const bool told = Kokkos::Tools::profileLibraryLoaded();
        if (told) {
          Kokkos::Tools::beginParallelFor(label, Kokkos::Tools::Experimental::device_id(space_), &kernel);
        }
        functor(HostMember{});
        if (told) Kokkos::Tools::endParallelFor(kernel);
        return;
      }
    }
    require_nesting(space_);
    // Kokkos copies the label, on the heap from 16 letters on, though only tools read it.
    const std::string& shown = Kokkos::Tools::profileLibraryLoaded() ? label : unlabelled_;
    if constexpr (kSimd) {
      if (as_range()) {
        const int teams = schedule_.teams;
        const int size = schedule_.team_size;
        Kokkos::parallel_for(shown, one_each_, [=](int i) { functor(HostMember{i / size, teams, i % size, size}); });
        return;
      }
    }
    // Not made where it was not expected: a plan made outside of a parallel region may be executed inside.
    Kokkos::parallel_for(shown, teams_ ? *teams_ : Policy(space_, schedule_.teams, schedule_.team_size), functor);
  }

  Space space_;
  Problem problem_;
  Multiply multiply_;
  Shape shape_;
  Schedule schedule_;
  Workspace place_;
  Values weights_;                                // packed, shared by forks
  Values workspace_;                              // (teams, place_.end)
  Integers lengths_;                              // (batch_size)
  Kokkos::View<std::uint32_t*, Memory> meeting_;  // (teams, meeting_words), where SIMD threads meet
  int parity_ = 0;
  // Made once, as Kokkos 4 makes a policy on the heap: the threads of all teams, or the teams.
  OneEach one_each_;
  std::optional<Policy> teams_;
  const std::string label_ = "gru::kokkos::recurrence";
  const std::string unlabelled_;
};

}  // namespace
}  // namespace kokkos

template <KokkosSpace S, kokkos::Multiplier M>
Decision<> KokkosPatterns<S, M>::decide(const Problem& problem) {
  constexpr bool rounds = M == kokkos::Multiplier::host_simd;
  const Math math = problem.options.math;
  const bool rounded = rounds && math == Math::bf16;
  if (math != Math::strict && !rounded) {
    return Decision<>::no("it computes in math strict" + std::string(rounds ? " or bf16" : " only") + ", asked for " +
                          std::string(name_of(math)));
  }
  if (rounded && problem.options.dtype != DType::float32) {
    return Decision<>::no("math bf16 rounds the weights of float32 plans, asked for " +
                          std::string(name_of(problem.options.dtype)));
  }
  const std::int64_t largest =
      std::max({problem.config.input_size, problem.config.hidden_size, problem.config.num_layers,
                problem.options.batch_size, problem.options.seq_len});
  if (largest > kokkos::kLargestSize) {
    return Decision<>::no("its sizes end at " + std::to_string(kokkos::kLargestSize) + ", got " +
                          std::to_string(largest));
  }
  return Decision<>::yes({}, rounded ? "weights rounded to bfloat16, all else float32" : "");
}

template <KokkosSpace S, kokkos::Multiplier M>
KokkosPatterns<S, M>::KokkosPatterns(const S& space, const Problem& problem, const Decision<>&,
                                     const Weights& weights) {
  if (problem.options.dtype == DType::float32) {
    engine_ = std::make_unique<kokkos::TypedEngine<S, M, float>>(space, problem, weights);
  } else {
    engine_ = std::make_unique<kokkos::TypedEngine<S, M, double>>(space, problem, weights);
  }
}

template <KokkosSpace S, kokkos::Multiplier M>
KokkosPatterns<S, M>::KokkosPatterns(std::unique_ptr<kokkos::Engine<S>> engine) : engine_(std::move(engine)) {}
template <KokkosSpace S, kokkos::Multiplier M>
KokkosPatterns<S, M>::KokkosPatterns(KokkosPatterns&&) noexcept = default;
template <KokkosSpace S, kokkos::Multiplier M>
KokkosPatterns<S, M>& KokkosPatterns<S, M>::operator=(KokkosPatterns&&) noexcept = default;
template <KokkosSpace S, kokkos::Multiplier M>
KokkosPatterns<S, M>::~KokkosPatterns() = default;

template <KokkosSpace S, kokkos::Multiplier M>
void KokkosPatterns<S, M>::execute(const Call& call) {
  engine_->execute(call);
}
template <KokkosSpace S, kokkos::Multiplier M>
KokkosPatterns<S, M> KokkosPatterns<S, M>::fork(const S& space) const {
  return KokkosPatterns(engine_->fork(space));
}
template <KokkosSpace S, kokkos::Multiplier M>
std::size_t KokkosPatterns<S, M>::workspace_bytes() const {
  return engine_->workspace_bytes();
}

template class KokkosPatterns<Kokkos::DefaultHostExecutionSpace>;
// The portable loops on the host, so that what devices compile is tested wherever there is none.
template class KokkosPatterns<Kokkos::DefaultHostExecutionSpace, kokkos::Multiplier::portable>;
#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP) || defined(KOKKOS_ENABLE_SYCL)
template class KokkosPatterns<Kokkos::DefaultExecutionSpace>;
#endif

}  // namespace gru
