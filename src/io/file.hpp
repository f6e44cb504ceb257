// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gru/tensor.hpp"

namespace gru {

/// Text from a file as messages may show it: control characters escaped, cut after 80 characters.
std::string printable(std::string_view text);

/// What the system says of a value of errno.
std::string reason_of(int error);

/// The descriptor that a path names: /dev/stdin, /dev/stdout, /dev/stderr, /dev/fd/N and /proc/self/fd/N.
std::optional<int> descriptor_named_by(const std::filesystem::path& path);

/// A file descriptor that is closed with its owner; -1 is none.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor();

  int get() const { return number_; }
  int release() { return std::exchange(number_, -1); }

 private:
  int number_ = -1;
};

/// Bytes to be read at any place: a regular file, or what a pipe or a socket gave until its end, kept in memory. A path
/// that names a descriptor is read from where that descriptor stands. Errors are gru::Error and name the path.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);
  /// Bytes in memory; `name` stands for the path in messages.
  InputFile(std::string name, std::string bytes);
  /// What the program gets on descriptor 0.
  static InputFile standard_input();

  std::uint64_t size() const { return size_; }

  /// The path, if this is a regular file that can be found again by it.
  const std::optional<std::filesystem::path>& path() const { return path_; }
  /// The path, or what stands for it in messages.
  const std::string& name() const { return name_; }

  /// Exactly `bytes` bytes from `offset`; both were checked against size() before.
  void read(std::uint64_t offset, void* to, std::size_t bytes);

  /// The first bytes, at most so many.
  std::string head(std::size_t bytes);

  /// Throws gru::Error "<path>: <message>".
  [[noreturn]] void refuse(const std::string& message) const;

  /// make(), which wants so many bytes of memory; if they are not there, gru::Error with the path and their number.
  template <class Make>
  auto with_memory(std::uint64_t bytes, const Make& make) const {
    try {
      return make();
    } catch (const std::bad_alloc&) {
      refuse_for_memory(bytes);
    }
  }
  /// A tensor for what the file holds, zeroed; the same error.
  Tensor make_tensor(DType dtype, const std::vector<std::int64_t>& extents) const;

 private:
  InputFile(std::string name, Descriptor descriptor);

  void examine();
  void read_to_end();
  [[noreturn]] void refuse_for_memory(std::uint64_t bytes) const;

  std::optional<std::filesystem::path> path_;
  std::string name_;
  Descriptor descriptor_;    ///< of a regular file, else none
  std::string memory_;       ///< what a stream gave
  std::uint64_t begin_ = 0;  ///< where a regular file's first byte is
  std::uint64_t size_ = 0;
};

class NamesLock;

/// Where a path leads through its links, be there a file or not yet.
std::filesystem::path follow_links(const std::filesystem::path& path);

/// A file that appears whole or not at all: written under a name of its own in the same folder, renamed by commit(),
/// removed by the destructor if commit() was not reached, or by abandon_unfinished_files() (io/unfinished.hpp). Symbolic
/// links are followed, also to where nothing is yet; a file there before is replaced and leaves its permissions.
///
/// What cannot be replaced (a pipe, a device, a descriptor, a file that is a mount of its own) is written by commit(), all
/// at once: until then the bytes are kept in memory.
class OutputFile {
 public:
  /// Throws gru::Error if the path names no place that can be written.
  explicit OutputFile(std::filesystem::path path);
  /// What the program has as descriptor 1.
  static OutputFile standard_output();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  void write(const void* data, std::size_t bytes);

  /// Puts the file in its place, after its bytes have reached the disk.
  void commit();

  /// commit() for all of them or, if one cannot be put in its place, for none: what stood there before is there again.
  /// What is written to a stream before the failure of another cannot be taken back.
  static void commit_together(std::initializer_list<OutputFile*> files);

 private:
  OutputFile(std::string name, int descriptor);

  bool direct() const { return direct_; }
  void prepare_direct(const std::filesystem::file_status& status);
  void make_temporary(bool replaces);
  void finish();                        // its bytes to the disk
  void write_direct();                  // its bytes to what cannot be replaced
  void keep_old();                      // a second name for what stands in its place
  void put_in_place(NamesLock& names);  // the rename
  void forget_old();
  std::string take_back();  // undoes both; empty, or what stayed behind and where
  [[noreturn]] void fail(std::string_view what, int error) const;

  std::filesystem::path path_;       ///< as the caller named it, for messages
  std::filesystem::path target_;     ///< with links resolved
  std::filesystem::path temporary_;  ///< beside target_
  std::filesystem::path old_;        ///< beside target_: what stood there before, while others are committed
  Descriptor descriptor_;            ///< of temporary_
  bool direct_ = false;
  std::optional<int> stream_;  ///< the descriptor that the path names
  std::string held_;           ///< what commit() writes directly
};

}  // namespace gru
