// SPDX-License-Identifier: Apache-2.0
#include "python/src/engine.hpp"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <set>
#include <string>
#include <utility>

#include "gru/device.hpp"
#include "gru/error.hpp"
#include "gru/runtime.hpp"
#include "python/src/capture.hpp"
#include "src/format.hpp"

namespace gru::python {
namespace {

// What the process has of this library: the runtime, and which plans must let go of their memory before it ends.
class Process {
 public:
  static Process& instance() {
    static auto* process = new Process;  // outlives every static object
    return *process;
  }

  void require_runtime() {
    require_same_process();
    std::lock_guard lock(mutex_);
    if (ended_) {
      throw Error(
          "gru: the interpreter is ending, and gru's memory has been given back; make no plan in exit handlers");
    }
    if (runtime_) return;
    runtime_.emplace();
    process_id_ = getpid();
    pthread_atfork(nullptr, nullptr, [] { is_fork_ = true; });
  }

  // A thread pool does not survive fork(): the child's first parallel region would wait for threads that are not there.
  void require_same_process() const {
    if (!is_fork_.load(std::memory_order_relaxed)) return;  // asked in each call, so without a system call
    throw Error(fmt::format(
        "gru: this is a fork of the process ({}) that made the first plan, and threads do not survive a fork; start "
        "processes by multiprocessing's 'spawn' or 'forkserver', or make the first plan after the fork",
        process_id_));
  }

  void add(Engine* engine) {
    std::lock_guard lock(mutex_);
    engines_.insert(engine);
  }
  void remove(Engine* engine) {
    std::lock_guard lock(mutex_);
    engines_.erase(engine);
  }

  void shut_down() {
    std::set<Engine*> engines;
    {
      std::lock_guard lock(mutex_);
      if (ended_) return;
      ended_ = true;
      if (is_fork_) return;  // a fork has no threads to end
      engines = engines_;
    }
    for (Engine* engine : engines) engine->release();
    runtime_.reset();
  }

 private:
  std::mutex mutex_;
  std::set<Engine*> engines_;
  std::optional<Runtime> runtime_;
  bool ended_ = false;
  pid_t process_id_ = 0;
  static inline std::atomic<bool> is_fork_ = false;  // of a process that has the runtime
};

DevicePlan make_plan(const std::string& device, const Weights& weights, const PlanOptions& options) {
  Process::instance().require_runtime();
  const OutsideCapture outside;
  DevicePlan plan(Device(device), weights, options);
  plan.wait();  // made on a stream of its own: whatever stream calls come on, it is ready
  return plan;
}

}  // namespace

Engine::Engine(const std::string& device, const Weights& weights, const PlanOptions& options)
    : plan_(make_plan(device, weights, options)) {
  place_ = {!plan_->device().is_host(), plan_->device().index()};
  stream_ = ~std::uintptr_t{0};  // none yet
  Process::instance().add(this);
}

Engine::Engine(const std::string& device, const Config& config, const PlanOptions& options)
    : Engine(device, Weights::zeros(config), options) {}

Engine::~Engine() { Process::instance().remove(this); }

void Engine::execute(const Call& call, std::span<const CellWeights> cells, std::uintptr_t stream) {
  std::lock_guard lock(mutex_);
  DevicePlan& plan = on(stream);
  if (cells.empty()) {
    plan.execute(call);
  } else {
    plan.execute(call, cells);
  }
}

void Engine::backward(const BackwardCall& call, std::span<const CellWeights> cells, std::uintptr_t stream) {
  std::lock_guard lock(mutex_);
  DevicePlan& plan = on(stream);
  plan.set_weights(cells);
  plan.backward(call);
}

void Engine::step(const ConstTensorView& x, const ConstTensorView& h_in, const TensorView& h_out,
                  std::uintptr_t stream) {
  std::lock_guard lock(mutex_);
  on(stream).step(x, h_in, h_out);
}

void Engine::wait() {
  std::lock_guard lock(mutex_);
  plan().wait();
}

void Engine::release() {
  std::lock_guard lock(mutex_);
  plan_.reset();
}

const DevicePlan& Engine::plan() const {
  if (!plan_) throw Error("gru: the interpreter is ending, and this plan's memory has been given back");
  return *plan_;
}

// The caller orders what the last stream has still to do against what comes now.
DevicePlan& Engine::on(std::uintptr_t stream) {
  Process::instance().require_same_process();
  plan();
  if (place_.is_cuda && stream != stream_) {
    plan_->use_stream(reinterpret_cast<CUstream_st*>(stream));
    stream_ = stream;
  }
  return *plan_;
}

void require_runtime() { Process::instance().require_runtime(); }

std::vector<Device> devices() {
  require_runtime();
  return Device::list();
}

void shut_down() { Process::instance().shut_down(); }

}  // namespace gru::python
