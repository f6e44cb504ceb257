// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/packing/packing.hpp"

#include <algorithm>
#include <array>
#include <cstddef>

#include "backends/cuda/common/integers.hpp"
#include "backends/cuda/common/launch.hpp"
#include "backends/cuda/common/runtime.hpp"
#include "backends/cuda/packing/uploaded_weights.hpp"

namespace gru::cuda {
namespace {

constexpr std::int64_t kElementsAThread = 4;
constexpr unsigned kMostBlocks = 256;  ///< of a matrix; there are many at once

void read_matrix(PackTask& task, const ConstTensorView& view) {
  task.from[0] = view.data;
  task.dtype[0] = view.dtype;
  task.stride[0] = view.strides[0];
  task.stride[1] = view.strides[1];
}

void read_biases(PackTask& task, const CellWeights& cell) {
  const std::array views{&cell.bias_ih, &cell.bias_hh};
  for (std::size_t i = 0; i < views.size(); ++i) {
    if (!views[i]->given()) continue;
    task.from[i] = views[i]->data;
    task.dtype[i] = views[i]->dtype;
    task.stride[i] = views[i]->strides[0];
  }
}

void start(StreamRef stream, const PackTasks& tasks, std::size_t count) {
  std::int64_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    largest = std::max(largest, tasks.task[i].form.count());
  }
  const unsigned wide = std::min(blocks(largest, kPackThreads * kElementsAThread), kMostBlocks);
  Launch(dim3(wide, static_cast<unsigned>(count)), dim3(kPackThreads), 0, stream)
      .start(pack_kernel(), "the launch of the weights' packing", tasks);
}

}  // namespace

void Packing::add(std::int64_t cell, Source source, const PackForm& form, Stored stored, std::int64_t columns,
                  void* to) {
  Entry entry{cell, source, {}};
  entry.task.form = form;
  entry.task.stored = stored;
  entry.task.to = to;
  entry.task.hidden = static_cast<int>(config_.hidden_size);
  entry.task.columns = static_cast<int>(columns);
  entries_.push_back(entry);
}

void Packing::weight_ih(std::int64_t cell, const PackForm& form, Stored stored, void* to) {
  add(cell, Source::weight_ih, form, stored, config_.layer_input_size(cell / config_.num_directions()), to);
}
void Packing::weight_hh(std::int64_t cell, const PackForm& form, Stored stored, void* to) {
  add(cell, Source::weight_hh, form, stored, config_.hidden_size, to);
}
void Packing::bias(std::int64_t cell, const BiasForm& form, Stored stored, void* to) {
  if (config_.bias) add(cell, Source::bias, form, stored, 0, to);
}

void Packing::run(StreamRef stream, std::span<const CellWeights> cells) const {
  PackTasks tasks;
  tasks.reset_after = config_.reset_after;
  std::size_t count = 0;
  for (const Entry& entry : entries_) {
    PackTask& task = tasks.task[count++] = entry.task;
    const CellWeights& cell = cells[at(entry.cell)];
    if (entry.source == Source::bias) {
      read_biases(task, cell);
    } else {
      read_matrix(task, entry.source == Source::weight_ih ? cell.weight_ih : cell.weight_hh);
    }
    if (count < PackTasks::kMost && &entry != &entries_.back()) continue;
    start(stream, tasks, count);
    count = 0;
  }
}

void Packing::run(StreamRef stream, const Weights& weights) const {
  const DeviceGuard guard(stream.device);
  load_kernel(pack_kernel());  // or the first set_weights would load it, and wait for the device
  if (weights.are_zeros()) return;
  const UploadedWeights uploaded(stream, weights);
  run(stream, uploaded.cells());
  uploaded.wait();
}

}  // namespace gru::cuda
