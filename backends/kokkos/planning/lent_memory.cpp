// SPDX-License-Identifier: Apache-2.0
#include "backends/kokkos/planning/lent_memory.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <new>
#include <string>

#include "gru/detail/kokkos_space.hpp"
#include "gru/error.hpp"

namespace gru::kokkos {
namespace {

constexpr std::size_t kLeastBytes = std::size_t{64} << 10;
constexpr std::size_t kCoarse = std::size_t{64} << 20;

/// So that plans which grow step by step seldom need another block; what nobody touches takes address space only.
std::size_t rounded(std::size_t bytes) {
  if (bytes > kCoarse) return (bytes + kCoarse - 1) / kCoarse * kCoarse;
  return std::bit_ceil(std::max(bytes, kLeastBytes));
}

}  // namespace

std::shared_ptr<LentMemory> LentMemory::of(Kind kind) {
  static std::mutex mutex;
  static std::array<std::weak_ptr<LentMemory>, kKinds> all;
  const std::lock_guard lock(mutex);
  std::weak_ptr<LentMemory>& known = all[static_cast<std::size_t>(kind)];
  std::shared_ptr<LentMemory> memory = known.lock();
  if (memory == nullptr) known = memory = std::make_shared<LentMemory>(kind);
  return memory;
}

std::list<LentBlock> LentMemory::made(std::size_t bytes) const {
  const std::size_t size = rounded(bytes);
  std::list<LentBlock> block(1);
  block.front().memory =
      allocate_host(kind_ == Kind::weights ? "gru::kokkos::lent_weights" : "gru::kokkos::lent_workspace", size);
  block.front().bytes = size;
  return block;
}

void LentMemory::reserve(std::size_t bytes) {
  std::list<LentBlock> block, dropped;
  const std::lock_guard lock(mutex_);
  if (largest_ >= bytes) return;
  block = made(bytes);
  largest_ = block.front().bytes;
  if (!free_.empty()) dropped.splice(dropped.end(), free_, std::prev(free_.end()));
  free_.splice(free_.end(), block);
}

LentMemory::Loan LentMemory::lend(std::size_t bytes) {
  std::list<LentBlock> block;
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(free_.begin(), free_.end(), [&](const LentBlock& b) { return b.bytes >= bytes; });
  if (found != free_.end()) {
    block.splice(block.end(), free_, found);
  } else {
    try {
      block = made(bytes);
    } catch (const std::bad_alloc&) {
      throw Error("gru::Plan::execute: expected " + std::to_string(bytes) +
                  " bytes for a call beside others, got no memory; run fewer calls at the same time or plan for a "
                  "smaller batch_size or seq_len");
    }
    largest_ = std::max(largest_, block.front().bytes);
  }
  ++lent_;
  return {this, std::move(block)};
}

void LentMemory::give(std::list<LentBlock>&& block) {
  const std::lock_guard lock(mutex_);
  --lent_;
  const auto larger =
      std::find_if(free_.begin(), free_.end(), [&](const LentBlock& b) { return b.bytes > block.front().bytes; });
  free_.splice(larger, block);
}

std::size_t LentMemory::blocks() {
  const std::lock_guard lock(mutex_);
  return free_.size() + lent_;
}

}  // namespace gru::kokkos
