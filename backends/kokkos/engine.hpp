// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "backends/kokkos/host_launch.hpp"
#include "backends/kokkos/kokkos_patterns.hpp"
#include "backends/kokkos/multiply.hpp"
#include "backends/kokkos/packing/pack.hpp"
#include "backends/kokkos/planning/arrangement.hpp"
#include "backends/kokkos/planning/lent_memory.hpp"
#include "backends/kokkos/recurrence.hpp"
#include "backends/kokkos/schedule.hpp"
#include "backends/kokkos/simd/select.hpp"
#include "backends/kokkos/trainer.hpp"
#include "gru/error.hpp"

namespace gru::kokkos {

template <class Space>
class Engine {
 public:
  Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  virtual ~Engine() = default;
  virtual void execute(const Call& call) = 0;
  virtual void execute(const Call& call, std::span<const CellWeights> cells) = 0;
  virtual std::unique_ptr<Engine> fork(const Space& space) const = 0;
  virtual std::size_t workspace_bytes() const = 0;
  virtual std::size_t reserve_bytes() const = 0;
  virtual void backward(const BackwardCall& call) = 0;
  virtual void set_weights(std::span<const CellWeights> cells) = 0;
};

inline constexpr int kPortableLanes = 32;  // threads of a warp: neighbours load neighbouring weights

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
    weights_ = std::make_shared<Packed>();
    weights_->memory = allocate_array<T>("gru::kokkos::weights", packed_size(shape_));
    if (HostSpace<Space> && weights.are_zeros()) {
      // Whoever gives its weights with each call needs no memory for them: it is touched when it must be.
    } else if constexpr (HostSpace<Space>) {
      std::call_once(weights_->written, [&] {
        pack_weights<T>(shape_, weights, weights_->memory.get(), nullptr, packing_threads(space_));
      });
    } else {
      const std::size_t packed = packed_size(shape_);
      const auto host = std::make_unique_for_overwrite<T[]>(packed);
      pack_weights<T>(shape_, weights, host.get(), nullptr, 1);
      SpaceTraits<Space>::copy_in(space_, weights_->memory.get(), host.get(), packed * sizeof(T));
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

  void execute(const Call& call) override { run(call, own_weights()); }

  void execute(const Call& call, std::span<const CellWeights> cells) override {
    if (!lends()) {
      set_weights(cells);
      return execute(call);
    }
    LentMemory::Loan loan = lent_weights_->lend(packed_size(shape_) * sizeof(T));
    T* const weights = static_cast<T*>(loan.block().memory.get());
    pack(cells, weights, nullptr);
    run(call, weights);
  }

  std::size_t reserve_bytes() const override { return trainer_.reserve_bytes(); }

  void backward([[maybe_unused]] const BackwardCall& call) override {
    if constexpr (!Forward::kStages) {  // else the plan is one for inference
      const auto batch = static_cast<int>(call.x.extents[1]);
      const Schedule& schedule = arrangements_.own().schedule;
      const int tile_rows = std::min(schedule.tile_rows, (batch + schedule.teams - 1) / schedule.teams);
      trainer_.backward(call, shape_, multiply_, own_weights(), lengths_.get(), tile_rows,
                        [this](const std::string& label, const auto& functor) {
                          launch(label, arrangements_.own().schedule, functor);
                        });
    }
  }

  void set_weights(std::span<const CellWeights> cells) override {
    std::call_once(weights_->written, [] {});
    pack(cells, weights_->memory.get(), trainer_.weights());
  }

  std::unique_ptr<Engine<Space>> fork(const Space& space) const override {
    return std::make_unique<TypedEngine>(space, *this);
  }

  std::size_t workspace_bytes() const override {
    return workspace_elements() * sizeof(T) + (lengths_elements() + order_elements()) * sizeof(std::int32_t) +
           threads_.bytes() + trainer_.workspace_bytes();
  }

 private:
  /// Packed weights, shared by forks.
  struct Packed {
    std::shared_ptr<T> memory;
    std::once_flag written;
  };

  /// The plan's own, zeros where it never had others.
  const T* own_weights() const {
    if constexpr (HostSpace<Space>) {
      std::call_once(weights_->written, [&] {
        std::fill_n(weights_->memory.get(), packed_size(shape_), T(0));  // whatever their order
        if (trains()) trainer_.clear_weights();
      });
    }
    return weights_->memory.get();
  }

  void pack(std::span<const CellWeights> cells, T* weights, T* back) {
    packs_.clear();
    for (int layer = 0; layer < shape_.layers; ++layer) {
      for (int d = 0; d < shape_.directions; ++d) {
        packs_.push_back(pack_cell(shape_, layer, d, cells[packs_.size()], weights, back));
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

  void run(const Call& call, const T* weights) {
    if (!lends()) return run(call, weights, workspace_);
    LentMemory::Loan loan = lent_workspace_->lend(workspace_elements() * sizeof(T));
    run(call, weights, loan.block());
  }

  void run(const Call& call, const T* weights, LentBlock& workspace) {
    const Arrangement& arrangement =
        arrangements_.of(static_cast<int>(call.x.extents[0]), static_cast<int>(call.x.extents[1]));
    const Schedule& schedule = arrangement.schedule;
    Forward r;
    r.shape = shape_;
    r.schedule = schedule;
    r.place = arrangement.place;
    r.multiply = multiply_;
    r.weights = weights;
    r.workspace = static_cast<T*>(workspace.memory.get());
    r.lengths = lengths_.get();
    r.given = {call.lengths.data, call.lengths.strides[0], call.lengths.dtype == DType::int64};
    r.x = strided<const Tensor>(call.x);
    r.h0 = strided<const Tensor>(call.h0);
    r.output = strided<Tensor>(call.output);
    r.h_n = strided<Tensor>(call.h_n);
    r.steps = static_cast<int>(call.x.extents[0]);
    r.batch = static_cast<int>(call.x.extents[1]);
    r.tile_rows = std::min(schedule.tile_rows, (r.batch + schedule.teams - 1) / schedule.teams);
    if constexpr (HostSpace<Space>) {
      if (!call.reserve.given()) order_rows(r);  // what is kept has every row at every step
    }
    r.parity = parity_ = 1 - parity_;
    trainer_.keep(r, call);
    if constexpr (kSimd) clear_padding(arrangement, workspace);
    launch(label_, schedule, r);
  }

  void clear_padding(const Arrangement& a, LentBlock& workspace) {
    const Padding padding = padding_of(shape_, a, sizeof(T));
    if (workspace.padding == padding) return;
    workspace.padding = padding;
    if (shape_.padded() == shape_.hidden || a.place.buffers == 0) return;
    launch(clear_label_, a.schedule,
           ClearPadding<T>{static_cast<T*>(workspace.memory.get()), a.place, a.schedule.teams, shape_.hidden,
                           shape_.padded()});
  }

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
    for (int first = 0; first < tiles; first += r.schedule.teams) {
      const int end = std::min(first + r.schedule.teams, tiles);
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
  /// Whether calls have memory that plans share: those that bring their weights come in many shapes.
  bool lends() const { return kSimd && problem_.options.takes_weights; }

  Arrangements make_arrangements() const {
    const auto steps = static_cast<int>(problem_.options.seq_len);
    Arrangement only{steps, static_cast<int>(problem_.options.batch_size), {}, {}};
    if constexpr (kSimd) {
      const HostTraits host{problem_.device.concurrency,
                            pool_threads(space_),
                            lanes(),
                            multiply_.kernels->max_rows,
                            sizeof(T),
                            per_element(),
                            host_l2_bytes(),
                            multiply_.kernels->step_beside != nullptr ? simd::kBesideDepth : 0};
      // What a forward keeps for a backward lies as the plan's own schedule has it.
      if (!trains() && (kIsOpenMP<Space> || host.threads == 1)) {
        return Arrangements(problem_, host, shape_, Forward::kStages);
      }
      only.schedule = schedule_for_host(problem_, host);
    } else {
      const Policy probe(space_, 1, 1);
      const int most = probe.team_size_max(Forward{}, Kokkos::ParallelForTag());
      only.schedule = schedule_for_device(problem_, lanes(), most);
    }
    only.place = workspace_of(shape_, only.schedule, steps, Forward::kStages);
    return Arrangements(only);
  }

  std::size_t workspace_elements() const { return static_cast<std::size_t>(arrangements_.most_elements()); }
  std::size_t lengths_elements() const { return static_cast<std::size_t>(problem_.options.batch_size); }
  std::size_t order_elements() const { return HostSpace<Space> ? 2 * lengths_elements() : 0; }
  template <class U>
  std::shared_ptr<U> allocate_array(const std::string& label, std::size_t elements) const {
    return std::static_pointer_cast<U>(
        SpaceTraits<Space>::allocate(space_, label, std::max<std::size_t>(elements, 1) * sizeof(U)));
  }

  void allocate() {
    arrangements_ = make_arrangements();
    const Schedule& schedule = arrangements_.own().schedule;
    packs_.reserve(static_cast<std::size_t>(shape_.layers) * static_cast<std::size_t>(shape_.directions));
    lengths_ = allocate_array<std::int32_t>("gru::kokkos::lengths", lengths_elements());
    if (order_elements() > 0) order_ = allocate_array<std::int32_t>("gru::kokkos::order", order_elements());
    if (own_launch()) {
      threads_ = HostThreads(space_, std::max(problem_.device.concurrency, schedule.teams * schedule.team_size));
    } else {
      require_all_threads(space_);
      teams_ = Policy(space_, schedule.teams, schedule.team_size);
    }
    if (trains()) {
      const int ranks = schedule.teams * (kSimd ? schedule.team_size : 1);
      trainer_.allocate(space_, problem_, shape_, schedule.tile_rows, ranks);
    }
    if (lends()) {
      lent_weights_ = LentMemory::of(LentMemory::Kind::weights);
      lent_workspace_ = LentMemory::of(LentMemory::Kind::workspace);
      lent_weights_->reserve(packed_size(shape_) * sizeof(T));
      lent_workspace_->reserve(workspace_elements() * sizeof(T));
      return;
    }
    const auto workspace = allocate_array<T>("gru::kokkos::workspace", workspace_elements());
    workspace_.memory = workspace;
    launch("gru::kokkos::clear_workspace", schedule, ClearWorkspace<T>{workspace.get(), arrangements_.own().place.end});
    SpaceTraits<Space>::fence(space_, "gru::kokkos::clear_workspace");
  }

  /// Whether host_launch.hpp wakes the threads, or there is none to wake; else Kokkos' teams.
  bool own_launch() const {
    const Schedule& schedule = arrangements_.own().schedule;
    return kSimd && (kIsOpenMP<Space> || schedule.teams * schedule.team_size == 1);
  }

  /// Runs the functor on the schedule's teams.
  template <class Functor>
  void launch(const std::string& label, const Schedule& schedule, const Functor& functor) {
    if constexpr (kSimd) {
      if (own_launch()) return threads_.launch(space_, label, schedule, functor);
    }
    require_all_threads(space_);
    // Kokkos copies the label, on the heap from 16 letters on, though only tools read it.
    Kokkos::parallel_for(Kokkos::Tools::profileLibraryLoaded() ? label : unlabelled_, *teams_, functor);
  }

  Space space_;
  Problem problem_;
  Multiply multiply_;
  Shape shape_;
  Arrangements arrangements_;
  std::shared_ptr<Packed> weights_;
  LentBlock workspace_;  // the plan's own, none where it lends: (teams, place.end) as a call's arrangement says
  std::shared_ptr<LentMemory> lent_weights_, lent_workspace_;
  std::shared_ptr<std::int32_t> lengths_;  // (batch_size)
  std::shared_ptr<std::int32_t> order_;    // (2, batch_size): rows sorted by length, and as the tiles have them
  HostThreads threads_;                    // where the backend wakes threads itself
  Trainer<Space, T, Multiply> trainer_;    // of plans for training
  std::vector<PackCell<T>> packs_;         // of the last new weights
  int parity_ = 0;
  std::optional<Policy> teams_;  // made once, as Kokkos 4 makes a policy on the heap
  const std::string label_ = "gru::kokkos::recurrence";
  const std::string clear_label_ = "gru::kokkos::clear_padding";
  const std::string pack_label_ = "gru::kokkos::pack";
  const std::string unlabelled_;
};

}  // namespace gru::kokkos
