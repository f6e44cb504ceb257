#include "python/src/engine.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <charconv>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "gru/cuda_stream.hpp"
#include "gru/error.hpp"
#include "gru/plan.hpp"

namespace gru::python {
namespace {

using Host = Kokkos::DefaultHostExecutionSpace;

// What the process has of this library: who initialised Kokkos, and which plans must let go of their memory first.
class Process {
 public:
  static Process& instance() {
    static auto* process = new Process;  // outlives every static object
    return *process;
  }

  void require_kokkos() {
    std::lock_guard lock(mutex_);
    if (ended_)
      throw Error(
          "gru: the interpreter is ending, and gru's memory has been given back; make no plan in exit handlers");
    if (Kokkos::is_initialized()) return;
    Kokkos::initialize(Kokkos::InitializationSettings().set_disable_warnings(true));
    ours_ = true;
    process_id_ = getpid();
  }

  // A thread pool does not survive fork(): the child's first parallel region would wait for threads that are not there.
  void require_same_process() const {
    if (process_id_ == 0 || process_id_ == getpid()) return;
    throw Error(fmt::format(
        "gru: this is a fork of the process ({}) that made the first plan, and threads do not survive a fork; start "
        "processes by multiprocessing's 'spawn' or 'forkserver', or make the first plan after the fork",
        process_id_));
  }

  void add(class AnyEngine* engine) {
    std::lock_guard lock(mutex_);
    engines_.insert(engine);
  }
  void remove(class AnyEngine* engine) {
    std::lock_guard lock(mutex_);
    engines_.erase(engine);
  }
  void shut_down();

 private:
  std::mutex mutex_;
  std::set<class AnyEngine*> engines_;
  bool ours_ = false;
  bool ended_ = false;
  pid_t process_id_ = 0;
};

class AnyEngine : public Engine {
 public:
  AnyEngine() { Process::instance().add(this); }
  AnyEngine(const AnyEngine&) = delete;
  AnyEngine& operator=(const AnyEngine&) = delete;
  ~AnyEngine() override { Process::instance().remove(this); }
  virtual void release() = 0;
};

template <class Space>
class SpaceEngine final : public AnyEngine {
 public:
  SpaceEngine(Space space, const Weights& weights, const PlanOptions& options)
      : space_(std::move(space)), plan_(std::in_place, *space_, weights, options) {}

  void execute(const Call& call, std::uintptr_t stream) override {
    std::lock_guard lock(mutex_);
    on(stream).execute(call);
  }
  void step(const ConstTensorView& x, const ConstTensorView& h_in, const TensorView& h_out,
            std::uintptr_t stream) override {
    std::lock_guard lock(mutex_);
    on(stream).step(x, h_in, h_out);
  }
  void wait() override {
    std::lock_guard lock(mutex_);
    const Status status = [&] {
      const Plan<Space>& current = plan();
      SpaceTraits<Space>::fence(*space_);
      return current.status();
    }();
    if (!status.ok) throw Error(status.message);
  }
  bool is_cuda() const override { return !SpaceTraits<Space>::is_host; }
  int device() const override {
    if constexpr (SpaceTraits<Space>::is_host) {
      return 0;
    } else {
      return space_ ? space_->device() : 0;
    }
  }
  const Problem& problem() const override { return plan().problem(); }
  std::string backend() const override { return std::string(plan().backend()); }
  std::string why() const override { return plan().why(); }
  std::size_t workspace_bytes() const override { return plan().workspace_bytes(); }
  void release() override {
    std::lock_guard lock(mutex_);
    plan_.reset();
    space_.reset();
  }

 private:
  const Plan<Space>& plan() const {
    if (!plan_) throw Error("gru: the interpreter is ending, and this plan's memory has been given back");
    return *plan_;
  }
  // The plan on the given stream. Another stream than the last waits for what the plan does there.
  Plan<Space>& on(std::uintptr_t stream) {
    Process::instance().require_same_process();
    plan();
    if constexpr (!SpaceTraits<Space>::is_host) {
      auto* wanted = reinterpret_cast<CUstream_st*>(stream);
      if (wanted != space_->stream()) {
        SpaceTraits<Space>::fence(*space_);
        space_.emplace(wanted);
        plan_.emplace(plan_->fork(*space_));
      }
    }
    return *plan_;
  }

  std::mutex mutex_;
  std::optional<Space> space_;  // neither may outlive Kokkos
  std::optional<Plan<Space>> plan_;
};

void Process::shut_down() {
  std::set<AnyEngine*> engines;
  {
    std::lock_guard lock(mutex_);
    if (ended_) return;
    ended_ = true;
    if (process_id_ != 0 && process_id_ != getpid()) return;  // a fork has no threads to end
    engines = engines_;
  }
  for (AnyEngine* engine : engines) engine->release();
  if (ours_ && Kokkos::is_initialized() && !Kokkos::is_finalized()) Kokkos::finalize();
}

}  // namespace

std::shared_ptr<Engine> make_engine(const std::string& device, const Weights& weights, const PlanOptions& options) {
  if (device != "cpu" && device != "auto" && !device.starts_with("cuda")) {
    throw Error(fmt::format("gru: device: expected auto, cpu, cuda or cuda:<number>, got '{}'", device));
  }
  Process::instance().require_same_process();
#if GRU_ENABLE_CUDA
  if (device.starts_with("cuda") || (device == "auto" && SpaceTraits<CudaStream>::available())) {
    int index = 0;
    if (device.size() > 4 && device != "auto") {
      const char* first = device.data() + 5;
      const char* last = device.data() + device.size();
      const auto [end, failure] = std::from_chars(first, last, index);
      if (device[4] != ':' || failure != std::errc() || end != last) {
        throw Error(fmt::format("gru: device: expected auto, cpu, cuda or cuda:<number>, got '{}'", device));
      }
    }
    return std::make_shared<SpaceEngine<CudaStream>>(CudaStream::create(index), weights, options);
  }
#else
  if (device.starts_with("cuda")) {
    throw Error(
        fmt::format("gru: device: '{}' needs a gru that was built with CUDA kernels; this one serves: cpu", device));
  }
#endif
  Process::instance().require_kokkos();
  return std::make_shared<SpaceEngine<Host>>(Host{}, weights, options);
}

std::vector<DeviceRow> devices() {
  std::vector<DeviceRow> rows;
  Process::instance().require_kokkos();
  rows.push_back({"cpu", SpaceTraits<Host>::device_info(Host{}), Plan<Host>::backends()});
#if GRU_ENABLE_CUDA
  if (SpaceTraits<CudaStream>::available()) {
    rows.push_back(
        {"cuda:0", SpaceTraits<CudaStream>::device_info(CudaStream::create(0)), Plan<CudaStream>::backends()});
  }
#endif
  return rows;
}

void shut_down() { Process::instance().shut_down(); }

}  // namespace gru::python
