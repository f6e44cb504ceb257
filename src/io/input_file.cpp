// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <system_error>

#include "format.hpp"
#include "gru/error.hpp"
#include "io/file.hpp"
#include "io/recognise.hpp"

namespace gru {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLargestRead = std::size_t{1} << 30U;  // Linux reads at most 2 GB a call

int duplicate(int descriptor) { return ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0); }

}  // namespace

std::string reason_of(int error) { return std::generic_category().message(error); }

std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  std::string shown;
  for (const char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      shown += fmt::format("\\x{:02x}", byte);
    } else {
      shown += c;
    }
  }
  return text.size() > kLongest ? shown + "..." : shown;
}

std::optional<int> descriptor_named_by(const fs::path& path) {
  const std::string& text = path.native();
  if (text == "/dev/stdin") return STDIN_FILENO;
  if (text == "/dev/stdout") return STDOUT_FILENO;
  if (text == "/dev/stderr") return STDERR_FILENO;
  for (const std::string_view folder : {"/dev/fd/", "/proc/self/fd/"}) {
    if (!text.starts_with(folder)) continue;
    int number = -1;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + folder.size(), end, number);
    if (error == std::errc{} && stop == end && number >= 0) return number;
  }
  return std::nullopt;
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

InputFile::InputFile(const fs::path& path) : name_(path.string()) {
  const std::optional<int> named = descriptor_named_by(path);
  descriptor_ = Descriptor(named ? duplicate(*named) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor_.get() < 0) {
    const int error = errno;
    if (error == ENOENT) refuse("there is no such file");
    if (error == EBADF) refuse("is not open; redirect a file or a pipe to it");
    refuse("cannot be opened: " + reason_of(error));
  }
  if (!named) path_ = path;
  examine();
}

InputFile::InputFile(std::string name, std::string bytes)
    : name_(std::move(name)), memory_(std::move(bytes)), size_(memory_.size()) {}

InputFile::InputFile(std::string name, Descriptor descriptor)
    : name_(std::move(name)), descriptor_(std::move(descriptor)) {
  if (descriptor_.get() < 0) refuse("is not open; redirect a file or a pipe to it");
  examine();
}

InputFile InputFile::standard_input() { return {"standard input", Descriptor(duplicate(STDIN_FILENO))}; }

void InputFile::examine() {
  struct stat status {};
  if (::fstat(descriptor_.get(), &status) != 0) refuse("cannot be examined: " + reason_of(errno));
  if (S_ISDIR(status.st_mode)) refuse("is a folder; give a file in it");
  if (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode)) return read_to_end();
  if (::isatty(descriptor_.get()) == 1) refuse("is a terminal; give a file, or a pipe with the file's bytes");
  if (!S_ISREG(status.st_mode)) refuse("is not a regular file, nor a pipe; copy its contents into a file");
  // A descriptor that somebody handed over stands where they left it.
  const off_t at = path_ ? 0 : ::lseek(descriptor_.get(), 0, SEEK_CUR);
  begin_ = at > 0 ? static_cast<std::uint64_t>(at) : 0;
  const auto end = static_cast<std::uint64_t>(status.st_size);
  size_ = end > begin_ ? end - begin_ : 0;
}

void InputFile::read_to_end() {
  constexpr std::size_t kChunk = std::size_t{1} << 20U, kEnoughToTell = 4096;
  for (;;) {
    with_memory(size_ + kChunk, [&] {
      if (memory_.size() < size_ + kChunk) memory_.resize(std::max<std::size_t>(2 * memory_.size(), size_ + kChunk));
      return true;
    });
    const ssize_t got = ::read(descriptor_.get(), memory_.data() + size_, memory_.size() - size_);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refuse("could not be read: " + reason_of(errno));
    if (got == 0) break;
    size_ += static_cast<std::uint64_t>(got);
    // A stream of anything else may never end. What is there by then tells its reader what it is.
    if (size_ >= kEnoughToTell && !begins_readable({memory_.data(), size_})) break;
  }
  memory_.resize(size_);
  path_.reset();
  descriptor_ = Descriptor();
}

void InputFile::read(std::uint64_t offset, void* to, std::size_t bytes) {
  if (descriptor_.get() < 0) {
    if (bytes > 0) std::memcpy(to, memory_.data() + offset, bytes);
    return;
  }
  auto* next = static_cast<char*>(to);
  std::uint64_t at = begin_ + offset;
  while (bytes > 0) {
    const ssize_t got = ::pread(descriptor_.get(), next, std::min(bytes, kLargestRead), static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      refuse(fmt::format("could not read {} bytes at {}: {}", bytes, at,
                         got < 0 ? reason_of(errno) : "the file became shorter"));
    }
    next += got;
    at += static_cast<std::uint64_t>(got);
    bytes -= static_cast<std::size_t>(got);
  }
}

std::string InputFile::head(std::size_t bytes) {
  std::string text(static_cast<std::size_t>(std::min<std::uint64_t>(bytes, size_)), '\0');
  read(0, text.data(), text.size());
  return text;
}

void InputFile::refuse(const std::string& message) const { throw Error(fmt::format("{}: {}", name_, message)); }

void InputFile::refuse_for_memory(std::uint64_t bytes) const {
  refuse(fmt::format("takes {} bytes of memory, more than there is; free some, or use a smaller file", bytes));
}

Tensor InputFile::make_tensor(DType dtype, const std::vector<std::int64_t>& extents) const {
  try {
    return {dtype, extents};
  } catch (const Error& error) {
    refuse(error.what());
  }
}

}  // namespace gru
