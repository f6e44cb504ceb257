#include "io/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

#include "gru/error.hpp"

namespace gru {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) { return std::generic_category().message(error); }

// A name that no other process, thread or earlier run uses, beside the target so that rename() stays on one file
// system.
fs::path temporary_name(const fs::path& target) {
  static std::atomic<unsigned> counter{0};
  fs::path name = target;
  name += fmt::format(".{}-{}.partial", ::getpid(), counter.fetch_add(1));
  return name;
}

}  // namespace

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

InputFile::InputFile(const fs::path& path) : path_(path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) refuse("there is no such file");
  if (error) refuse("cannot be examined: " + error.message());
  if (status.type() == fs::file_type::directory) refuse("is a folder; give a file in it");
  if (status.type() != fs::file_type::regular) refuse("is not a regular file; copy its contents into one");
  size_ = fs::file_size(path, error);
  if (error) refuse("cannot be examined: " + error.message());
  errno = 0;
  stream_.open(path, std::ios::binary);
  if (!stream_) refuse("cannot be opened: " + reason(errno));
}

void InputFile::read(std::uint64_t offset, void* to, std::size_t bytes) {
  if (bytes == 0) return;
  errno = 0;
  stream_.seekg(static_cast<std::streamoff>(offset));
  stream_.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes));
  if (!stream_) {
    refuse(fmt::format("could not read {} bytes at {}: {}", bytes, offset,
                       errno != 0 ? reason(errno) : "the file became shorter"));
  }
}

void InputFile::refuse(const std::string& message) const {
  throw Error(fmt::format("{}: {}", path_.string(), message));
}

OutputFile::OutputFile(fs::path path) : path_(std::move(path)) {
  if (path_.empty()) throw Error("an output path is empty; name a file");
  std::error_code error;
  const fs::file_status status = fs::status(path_, error);
  if (status.type() == fs::file_type::directory)
    throw Error(fmt::format("{}: is a folder; name a file in it", path_.string()));
  if (fs::exists(status) && status.type() != fs::file_type::regular) {
    throw Error(fmt::format("{}: is not a regular file and cannot be replaced; name another path", path_.string()));
  }
  error.clear();  // a file that is not there yet is no error
  target_ = fs::exists(status) ? fs::canonical(path_, error) : path_;
  if (error) fail("cannot be written", error.value());
  if (fs::exists(status) && ::access(target_.c_str(), W_OK) != 0) fail("cannot be replaced", errno);
  temporary_ = temporary_name(target_);
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    const int opening = errno;
    temporary_.clear();
    fail("cannot be written there", opening);
  }
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      target_(std::move(other.target_)),
      temporary_(std::exchange(other.temporary_, fs::path{})),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void OutputFile::write(const void* data, std::size_t bytes) {
  constexpr std::size_t kLargestWrite = std::size_t{1} << 30U;  // Linux writes at most 2 GB a call
  const auto* from = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor_, from, std::min(bytes, kLargestWrite));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("could not be written", errno);
    from += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

void OutputFile::commit() {
  if (::fsync(descriptor_) != 0 && errno != EINVAL) fail("could not be written to the disk", errno);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail("could not be written", errno);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("could not be put in place", errno);
  temporary_.clear();
}

void OutputFile::fail(std::string_view what, int error) const {
  throw Error(fmt::format("{}: {}: {}", path_.string(), what, reason(error)));
}

}  // namespace gru
