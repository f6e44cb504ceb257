#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

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

 private:
  std::filesystem::path path_;
  std::ifstream stream_;
  std::uint64_t size_ = 0;
};

/// A file that appears whole or not at all: written under a name of its own in the same folder, renamed by commit(),
/// removed by the destructor if commit() was not reached. A symbolic link is followed; a file there before is replaced.
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

 private:
  [[noreturn]] void fail(std::string_view what, int error) const;

  std::filesystem::path path_;       ///< as the caller named it, for messages
  std::filesystem::path target_;     ///< with links resolved
  std::filesystem::path temporary_;  ///< beside target_
  int descriptor_ = -1;
};

}  // namespace gru
