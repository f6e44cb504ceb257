#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "gru/tensor.hpp"

namespace gru {

/// Text from a file as messages may show it: control characters escaped, cut after 80 characters.
std::string printable(std::string_view text);

/// A regular file opened for reading at any place. Errors are gru::Error and name the path.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);

  std::uint64_t size() const { return size_; }

  /// Exactly `bytes` bytes from `offset`; both were checked against size() before.
  void read(std::uint64_t offset, void* to, std::size_t bytes);

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
  [[noreturn]] void refuse_for_memory(std::uint64_t bytes) const;

  std::filesystem::path path_;
  std::ifstream stream_;
  std::uint64_t size_ = 0;
};

/// Where a path leads through its links, be there a file or not yet.
std::filesystem::path follow_links(const std::filesystem::path& path);

/// A file that appears whole or not at all: written under a name of its own in the same folder, renamed by commit(),
/// removed by the destructor if commit() was not reached. Symbolic links are followed, also to where nothing is yet; a
/// file there before is replaced and leaves its permissions.
class OutputFile {
 public:
  /// Throws gru::Error if the path names no place where a regular file can be written.
  explicit OutputFile(std::filesystem::path path);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  void write(const void* data, std::size_t bytes);

  /// Puts the file in its place, after its bytes have reached the disk.
  void commit();

  /// commit() for all of them or, if one cannot be put in its place, for none: what stood there before is there again.
  static void commit_together(std::initializer_list<OutputFile*> files);

 private:
  void finish();            // its bytes to the disk
  void keep_old();          // a second name for what stands in its place
  void put_in_place();      // the rename
  std::string take_back();  // undoes both; empty, or what stayed behind and where
  [[noreturn]] void fail(std::string_view what, int error) const;

  std::filesystem::path path_;       ///< as the caller named it, for messages
  std::filesystem::path target_;     ///< with links resolved
  std::filesystem::path temporary_;  ///< beside target_
  std::filesystem::path old_;        ///< beside target_: what stood there before, while others are committed
  int descriptor_ = -1;
};

}  // namespace gru
