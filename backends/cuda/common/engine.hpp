// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "backends/cuda/common/stream_ref.hpp"
#include "gru/backend.hpp"

namespace gru::cuda {

/// A plan's executions on one stream: packed weights, which its forks share, and a workspace of its own. It knows a
/// stream and its device, no execution space, so that it is compiled once for all of them.
class Engine {
 public:
  explicit Engine(StreamRef on) : stream(on) {}
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  virtual ~Engine() = default;

  virtual void execute(const Call& call) = 0;
  /// Packs tensors of the stream's device for this engine and all that share its weights; launches only.
  void set_weights(std::span<const CellWeights> cells);
  virtual std::size_t workspace_bytes() const = 0;
  virtual Status status() const = 0;
  /// Throws gru::Error once if an earlier execution gave up a wait. execute begins with it; who launches work of its own
  /// before execute asks first, because only a stream without work is known to hold no late word of that execution.
  virtual void require_no_abort() {}
  /// Both on another stream of the same device; throw gru::Error for one of another device.
  std::unique_ptr<Engine> fork(StreamRef on) const;
  void rebind(StreamRef on);

 protected:
  StreamRef stream;

 private:
  virtual void load(std::span<const CellWeights> cells) = 0;  ///< what set_weights has checked
  virtual std::unique_ptr<Engine> fork_on(StreamRef on) const = 0;
  virtual void rebound() {}  ///< `stream` is another now
};

}  // namespace gru::cuda
