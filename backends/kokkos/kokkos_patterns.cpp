// SPDX-License-Identifier: Apache-2.0
#include "backends/kokkos/kokkos_patterns.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "backends/kokkos/host_launch.hpp"
#include "backends/kokkos/multiply.hpp"
#include "backends/kokkos/packing/pack.hpp"
#include "backends/kokkos/recurrence.hpp"
#include "backends/kokkos/schedule.hpp"
#include "backends/kokkos/simd/select.hpp"
#include "backends/kokkos/trainer.hpp"
#include "gru/error.hpp"

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
  virtual std::size_t reserve_bytes() const = 0;
  virtual void backward(const BackwardCall& call) = 0;
  virtual void set_weights(std::span<const CellWeights> cells) = 0;
};

namespace {

constexpr std::int64_t kLargestSize = std::int64_t{1} << 27;  // so that sums of a few sizes stay within 31 bits
constexpr int kPortableLanes = 32;                            // threads of a warp: neighbours load neighbouring weights

/// Computes in T; x, h0, output and h_n are of type Tensor.
template <class Space, Multiplier M, class T, class Tensor = T>
class TypedEngine final : public Engine<Space> {
  static constexpr bool kSimd = M == Multiplier::host_simd;
  using Multiply = std::conditional_t<kSimd, HostMultiply<T>, PortableMultiply<T>>;
  using Forward = Recurrence<T, Multiply, Tensor>;
  using Policy = Kokkos::TeamPolicy<Space>;

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
    const std::size_t packed = packed_size(shape_);
    weights_ = allocate_array<T>("gru::kokkos::weights", packed);
    if constexpr (HostSpace<Space>) {
      if (weights.are_zeros()) {
        std::fill_n(weights_.get(), packed, T(0));  // whatever their order
      } else {
        pack_weights<T>(shape_, weights, weights_.get(), nullptr, packing_threads(space_));
      }
    } else {
      const auto host = std::make_unique_for_overwrite<T[]>(packed);
      pack_weights<T>(shape_, weights, host.get(), nullptr, 1);
      SpaceTraits<Space>::copy_in(space_, weights_.get(), host.get(), packed * sizeof(T));
    }
    if (trains()) trainer_ = Trainer<Space, T, Multiply>(space_, shape_, weights);
    allocate();
  }

  /// Shares the packed weights of `other`.
  TypedEngine(const Space& space, const TypedEngine& other)
      : space_(space),
        problem_(other.problem_),
        multiply_(other.multiply_),
        shape_(other.shape_),
        weights_(other.weights_),
        trainer_(other.trainer_) {
    problem_.device.concurrency = SpaceTraits<Space>::device_info(space).concurrency;
    allocate();
  }

  void execute(const Call& call) override {
    Forward r;
    r.shape = shape_;
    r.schedule = schedule_;
    r.place = place_;
    r.multiply = multiply_;
    r.weights = weights_.get();
    r.workspace = workspace_.get();
    r.lengths = lengths_.get();
    r.given = {call.lengths.data, call.lengths.strides[0], call.lengths.dtype == DType::int64};
    r.x = strided<const Tensor>(call.x);
    r.h0 = strided<const Tensor>(call.h0);
    r.output = strided<Tensor>(call.output);
    r.h_n = strided<Tensor>(call.h_n);
    r.steps = static_cast<int>(call.x.extents[0]);
    r.batch = static_cast<int>(call.x.extents[1]);
    r.tile_rows = std::min(schedule_.tile_rows, (r.batch + schedule_.teams - 1) / schedule_.teams);
    if constexpr (HostSpace<Space>) {
      if (!call.reserve.given()) order_rows(r);  // what is kept has every row at every step
    }
    r.parity = parity_ = 1 - parity_;
    trainer_.keep(r, call);
    launch(label_, r);
  }

  std::size_t reserve_bytes() const override { return trainer_.reserve_bytes(); }

  void backward([[maybe_unused]] const BackwardCall& call) override {
    if constexpr (!Forward::kStages) {  // else the plan is one for inference
      const auto batch = static_cast<int>(call.x.extents[1]);
      const int tile_rows = std::min(schedule_.tile_rows, (batch + schedule_.teams - 1) / schedule_.teams);
      trainer_.backward(call, shape_, multiply_, weights_.get(), lengths_.get(), tile_rows,
                        [this](const std::string& label, const auto& functor) { launch(label, functor); });
    }
  }

  void set_weights(std::span<const CellWeights> cells) override {
    packs_.clear();
    for (int layer = 0; layer < shape_.layers; ++layer) {
      for (int d = 0; d < shape_.directions; ++d) {
        packs_.push_back(pack_cell(shape_, layer, d, cells[packs_.size()], weights_.get(), trainer_.weights()));
      }
    }
    if constexpr (HostSpace<Space>) {
      const std::span<const PackCell<T>> all = packs_;
      const ToldKernel<Space> told(pack_label_, space_);
      const auto turn = turn_of(space_);
      on_threads(pays_threads(all) ? packing_threads(space_) : 1,
                 [all](int rank, int size) { pack_cells(all, rank, size); });
    } else {
      const std::string& label = Kokkos::Tools::profileLibraryLoaded() ? pack_label_ : unlabelled_;
      for (const PackCell<T>& pack : packs_) {
        using Elements = Kokkos::RangePolicy<Space, Kokkos::IndexType<std::ptrdiff_t>>;
        Kokkos::parallel_for(label, Elements(space_, 0, pack.size()), pack);
      }
    }
  }

  std::unique_ptr<Engine<Space>> fork(const Space& space) const override {
    return std::make_unique<TypedEngine>(space, *this);
  }

  std::size_t workspace_bytes() const override {
    return workspace_elements() * sizeof(T) + (lengths_elements() + order_elements()) * sizeof(std::int32_t) +
           threads_.bytes() + trainer_.workspace_bytes();
  }

 private:
  /// Rows by falling length, so that a step has those alone that take part. Longest first, dealt to the teams in turn: all have
  /// about the same to do, and a tile's rows end at about the same time. Where the lengths lie on a device nobody here has looked.
  void order_rows(Forward& r) const {
    const Lengths given = std::exchange(r.given, {});
    const auto length = [&](std::int32_t row) { return given.at(row, r.steps); };
    std::int32_t* const sorted = order_.get();
    std::int32_t* const order = sorted + r.batch;
    bool any = false;
    for (std::int32_t row = 0; given.data != nullptr && row < r.batch; ++row) any = any || length(row) < r.steps;
    if (!any) return;
    std::iota(sorted, sorted + r.batch, 0);
    std::sort(sorted, sorted + r.batch, [&](std::int32_t a, std::int32_t b) {
      const std::int32_t of_a = length(a), of_b = length(b);
      return of_a != of_b ? of_a > of_b : a < b;
    });
    const int tiles = r.tiles();
    const std::int32_t* next = sorted;
    for (int first = 0; first < tiles; first += schedule_.teams) {
      const int end = std::min(first + schedule_.teams, tiles);
      for (int i = 0; i < r.tile_rows; ++i) {
        for (int tile = first; tile < end; ++tile) {
          const std::int32_t to = r.tile_begin(tile) + i;
          if (to >= r.tile_begin(tile + 1)) continue;
          order[to] = *next++;
          r.lengths[to] = length(order[to]);
        }
      }
    }
    r.order = order;
  }

  static Multiply make_multiply(Math math) {
    if constexpr (kSimd) {
      return {&simd::select_kernels<T>(math == Math::bf16 ? simd::Storage::bfloat : simd::Storage::whole)};
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
  bool trains() const { return problem_.options.training != Training::none; }
  int ranks() const { return schedule_.teams * (kSimd ? schedule_.team_size : 1); }

  Schedule make_schedule() const {
    if constexpr (kSimd) {
      const HostTraits host{problem_.device.concurrency,
                            pool_threads(space_),
                            lanes(),
                            multiply_.kernels->max_rows,
                            sizeof(T),
                            per_element(),
                            host_l2_bytes(),
                            multiply_.kernels->step_beside != nullptr ? simd::kBesideDepth : 0};
      return schedule_for_host(problem_, host);
    } else {
      const Policy probe(space_, 1, 1);
      const int most = probe.team_size_max(Forward{}, Kokkos::ParallelForTag());
      return schedule_for_device(problem_, lanes(), most);
    }
  }

  std::size_t workspace_elements() const {
    return static_cast<std::size_t>(schedule_.teams) * static_cast<std::size_t>(place_.end);
  }
  std::size_t lengths_elements() const { return static_cast<std::size_t>(problem_.options.batch_size); }
  std::size_t order_elements() const { return HostSpace<Space> ? 2 * lengths_elements() : 0; }
  template <class U>
  std::shared_ptr<U> allocate_array(const std::string& label, std::size_t elements) const {
    return std::static_pointer_cast<U>(
        SpaceTraits<Space>::allocate(space_, label, std::max<std::size_t>(elements, 1) * sizeof(U)));
  }

  void allocate() {
    schedule_ = make_schedule();
    packs_.reserve(static_cast<std::size_t>(shape_.layers) * static_cast<std::size_t>(shape_.directions));
    place_ = workspace_of(shape_, schedule_, static_cast<int>(problem_.options.seq_len), Forward::kStages);
    workspace_ = allocate_array<T>("gru::kokkos::workspace", workspace_elements());
    lengths_ = allocate_array<std::int32_t>("gru::kokkos::lengths", lengths_elements());
    if (order_elements() > 0) order_ = allocate_array<std::int32_t>("gru::kokkos::order", order_elements());
    if (own_launch()) {
      threads_ = HostThreads(space_, schedule_);
    } else {
      require_all_threads(space_);
      teams_ = Policy(space_, schedule_.teams, schedule_.team_size);
    }
    if (trains()) trainer_.allocate(space_, problem_, shape_, schedule_.tile_rows, ranks());
    launch("gru::kokkos::clear_workspace", ClearWorkspace<T>{workspace_.get(), place_.end});
    SpaceTraits<Space>::fence(space_, "gru::kokkos::clear_workspace");
  }

  /// Whether host_launch.hpp wakes the threads, or there is none to wake; else Kokkos' teams.
  bool own_launch() const { return kSimd && (kIsOpenMP<Space> || schedule_.teams * schedule_.team_size == 1); }

  /// Runs the functor on the schedule's teams.
  template <class Functor>
  void launch(const std::string& label, const Functor& functor) {
    if constexpr (kSimd) {
      if (own_launch()) return threads_.launch(space_, label, functor);
    }
    require_all_threads(space_);
    // Kokkos copies the label, on the heap from 16 letters on, though only tools read it.
    Kokkos::parallel_for(Kokkos::Tools::profileLibraryLoaded() ? label : unlabelled_, *teams_, functor);
  }

  Space space_;
  Problem problem_;
  Multiply multiply_;
  Shape shape_;
  Schedule schedule_;
  Workspace place_;
  std::shared_ptr<T> weights_;             // packed, shared by forks
  std::shared_ptr<T> workspace_;           // (teams, place_.end)
  std::shared_ptr<std::int32_t> lengths_;  // (batch_size)
  std::shared_ptr<std::int32_t> order_;    // (2, batch_size): rows sorted by length, and as the tiles have them
  HostThreads threads_;                    // where the backend wakes threads itself
  Trainer<Space, T, Multiply> trainer_;    // of plans for training
  std::vector<PackCell<T>> packs_;         // of the last new weights
  int parity_ = 0;
  std::optional<Policy> teams_;  // made once, as Kokkos 4 makes a policy on the heap
  const std::string label_ = "gru::kokkos::recurrence";
  const std::string pack_label_ = "gru::kokkos::pack";
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
  if (rounded && problem.options.dtype == DType::float64) {
    return Decision<>::no("math bf16 rounds the weights of plans that compute in float32, asked for " +
                          std::string(name_of(problem.options.dtype)));
  }
  const PlanOptions& options = problem.options;
  if (options.training != Training::none) {
    if (rounded) return Decision<>::no("it trains in math strict only, asked for bf16");
    if (options.seq_len * options.batch_size > kokkos::kLargestSize) {  // validated: no overflow
      return Decision<>::no("it trains up to T * B = " + std::to_string(kokkos::kLargestSize) + ", got " +
                            std::to_string(options.seq_len * options.batch_size));
    }
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
  const DType dtype = problem.options.dtype;
  if constexpr (streams_16_bits) {
    if (dtype == DType::float16) {
      engine_ = std::make_unique<kokkos::TypedEngine<S, M, float, Float16>>(space, problem, weights);
    } else if (dtype == DType::bfloat16) {
      engine_ = std::make_unique<kokkos::TypedEngine<S, M, float, BFloat16>>(space, problem, weights);
    }
    if (engine_ != nullptr) return;
  }
  if (dtype == DType::float32) {
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
std::size_t KokkosPatterns<S, M>::reserve_bytes() const {
  return engine_->reserve_bytes();
}
template <KokkosSpace S, kokkos::Multiplier M>
void KokkosPatterns<S, M>::backward(const BackwardCall& call) {
  engine_->backward(call);
}
template <KokkosSpace S, kokkos::Multiplier M>
void KokkosPatterns<S, M>::set_weights(std::span<const CellWeights> cells) {
  engine_->set_weights(cells);
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
