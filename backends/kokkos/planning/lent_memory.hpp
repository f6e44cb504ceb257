// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <utility>

#include "backends/kokkos/planning/arrangement.hpp"

namespace gru::kokkos {

/// Host memory that has been used before.
struct LentBlock {
  std::shared_ptr<void> memory;  ///< at a multiple of 64 bytes
  std::size_t bytes = 0;
  Padding padding{};  ///< that is zero; none at first
};

/// Memory that plans of any shape have for the time of a call: work on a host is done when the call returns, so that plans
/// whose calls follow each other share it, and a new plan finds pages that the system has given already. Any thread may
/// call. All goes back to the system with the last plan.
class LentMemory {
 public:
  enum class Kind : std::uint8_t { weights, workspace };
  static constexpr int kKinds = 2;

  /// A block for as long as it lives.
  class Loan {
   public:
    Loan(LentMemory* owner, std::list<LentBlock>&& block) : owner_(owner), block_(std::move(block)) {}
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    Loan(Loan&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)), block_(std::move(other.block_)) {}
    ~Loan() {
      if (owner_ != nullptr) owner_->give(std::move(block_));
    }
    LentBlock& block() { return block_.front(); }

   private:
    LentMemory* owner_;
    std::list<LentBlock> block_;
  };

  /// The process's; it lives as long as someone holds it.
  static std::shared_ptr<LentMemory> of(Kind kind);
  explicit LentMemory(Kind kind) : kind_(kind) {}

  /// Allocates what a later loan of so many bytes will need. A larger block takes the place of a smaller one that nobody has.
  void reserve(std::size_t bytes);
  /// The smallest block that nobody has and that is large enough. Allocates where more calls run at the same time than ever
  /// before; throws gru::Error if there is no memory for that.
  Loan lend(std::size_t bytes);
  /// Blocks, lent ones included.
  std::size_t blocks();

 private:
  std::list<LentBlock> made(std::size_t bytes) const;
  void give(std::list<LentBlock>&& block);

  Kind kind_;
  std::mutex mutex_;
  std::list<LentBlock> free_;  // by rising size
  std::size_t lent_ = 0;
  std::size_t largest_ = 0;  // bytes, lent ones included
};

}  // namespace gru::kokkos
