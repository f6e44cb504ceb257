#include "io/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
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
fs::path temporary_name(const fs::path& target, std::string_view what) {
  static std::atomic<unsigned> counter{0};
  fs::path name = target;
  name += fmt::format(".{}-{}.{}", ::getpid(), counter.fetch_add(1), what);
  return name;
}

// The permissions of a file that is there, else those of a new one.
mode_t permissions(const fs::path& target) {
  struct stat status {};
  constexpr mode_t kPermissions = 0777;
  return ::stat(target.c_str(), &status) == 0 ? status.st_mode & kPermissions : 0;
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

// fs::canonical wants a file at the end, and fs::weakly_canonical takes a link to nowhere for a plain name.
fs::path follow_links(const fs::path& path) {
  fs::path target = path;
  constexpr int kMostLinks = 40;  // the kernel's own limit
  for (int links = 0; links < kMostLinks; ++links) {
    std::error_code error;
    const fs::path next = fs::read_symlink(target, error);
    if (error) break;  // not a link
    target = target.parent_path() / next;
  }
  std::error_code error;
  const fs::path folder = fs::canonical(target.has_parent_path() ? target.parent_path() : ".", error);
  return error ? target : folder / target.filename();
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
  target_ = follow_links(path_);
  if (fs::is_symlink(target_, error)) fail("cannot be written", ELOOP);
  const bool replaces = fs::exists(status);
  if (replaces && ::access(target_.c_str(), W_OK) != 0) fail("cannot be replaced", errno);
  temporary_ = temporary_name(target_, "partial");
  // What only its owner may read must not be readable for a moment either, so the file is never more open than the old.
  const mode_t mode = replaces ? permissions(target_) : 0666;
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (descriptor_ < 0) {
    const int opening = errno;
    temporary_.clear();
    fail("cannot be written there", opening);
  }
  if (replaces) static_cast<void>(::fchmod(descriptor_, mode));  // what the umask took; no file system must have it
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      target_(std::move(other.target_)),
      temporary_(std::exchange(other.temporary_, fs::path{})),
      old_(std::exchange(other.old_, fs::path{})),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  if (!old_.empty()) ::unlink(old_.c_str());
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

void OutputFile::finish() {
  if (::fsync(descriptor_) != 0 && errno != EINVAL) fail("could not be written to the disk", errno);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail("could not be written", errno);
}

void OutputFile::keep_old() {
  std::error_code error;
  if (!fs::is_regular_file(target_, error)) return;  // nothing there, or what must not be replaced
  fs::path name = temporary_name(target_, "old");
  // Where a file cannot have two names, it is away until the new one is there.
  if (::link(target_.c_str(), name.c_str()) != 0 && ::rename(target_.c_str(), name.c_str()) != 0) {
    fail("cannot be replaced", errno);
  }
  old_ = std::move(name);
}

void OutputFile::put_in_place() {
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("could not be put in place", errno);
  temporary_.clear();
}

std::string OutputFile::take_back() {
  const bool in_place = temporary_.empty();
  if (old_.empty()) {
    if (in_place) ::unlink(target_.c_str());
    return {};
  }
  if (::rename(old_.c_str(), target_.c_str()) == 0)
    return {};  // two names of one file: the destructor removes the second
  return fmt::format("; what was in {} is now in {}", path_.string(), std::exchange(old_, fs::path{}).string());
}

void OutputFile::commit() {
  finish();
  put_in_place();
}

void OutputFile::commit_together(std::initializer_list<OutputFile*> files) {
  for (OutputFile* file : files) file->finish();
  try {
    for (OutputFile* file : files) file->keep_old();
    for (OutputFile* file : files) file->put_in_place();
  } catch (const Error& error) {
    std::string message = error.what();
    for (OutputFile* file : files) message += file->take_back();
    throw Error(message);
  }
}

void OutputFile::fail(std::string_view what, int error) const {
  throw Error(fmt::format("{}: {}: {}", path_.string(), what, reason(error)));
}

}  // namespace gru
