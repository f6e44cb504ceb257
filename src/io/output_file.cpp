// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "format.hpp"
#include "gru/error.hpp"
#include "io/file.hpp"
#include "io/unfinished.hpp"

namespace gru {
namespace {

namespace fs = std::filesystem;

// A name beside the target, so that rename() stays on one file system; it may be taken. `what` says what lies there.
fs::path temporary_name(const fs::path& target, std::string_view what) {
  static std::atomic<unsigned> counter{0};
  const std::string ending = fmt::format(".{}-{}.{}", ::getpid(), counter.fetch_add(1), what);
  constexpr std::size_t kLongestName = 255;
  std::string name = target.filename().string() + ending;
  if (name.size() > kLongestName) name = "gru" + ending;
  return target.parent_path() / name;
}

// The permissions of a file that is there, else those of a new one.
mode_t permissions(const fs::path& target) {
  struct stat status {};
  constexpr mode_t kPermissions = 0777;
  return ::stat(target.c_str(), &status) == 0 ? status.st_mode & kPermissions : 0;
}

// Whether the file is a mount of its own, as containers bind single files: it can be written, but not replaced.
bool is_mount(const fs::path& target) {
#ifdef STATX_ATTR_MOUNT_ROOT
  struct statx status {};
  if (::statx(AT_FDCWD, target.c_str(), 0, STATX_BASIC_STATS, &status) != 0) return false;
  return (status.stx_attributes_mask & status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
#else
  static_cast<void>(target);
  return false;
#endif
}

// Whether the descriptor is open for writing.
bool can_write(int descriptor) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
}

// Writes all; errno if it could not, else 0.
int write_all(int descriptor, const void* data, std::size_t bytes) {
  constexpr std::size_t kLargestWrite = std::size_t{1} << 30U;  // Linux writes at most 2 GB a call
  const auto* from = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor, from, std::min(bytes, kLargestWrite));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    from += written;
    bytes -= static_cast<std::size_t>(written);
  }
  return 0;
}

}  // namespace

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
  stream_ = descriptor_named_by(path_);
  std::error_code error;
  const fs::file_status status = fs::status(path_, error);
  if (status.type() == fs::file_type::directory)
    throw Error(fmt::format("{}: is a folder; name a file in it", path_.string()));
  target_ = stream_ ? path_ : follow_links(path_);
  if (stream_ || (fs::exists(status) && (status.type() != fs::file_type::regular || is_mount(target_)))) {
    prepare_direct(status);
    return;
  }
  if (fs::is_symlink(target_, error)) fail("cannot be written", ELOOP);
  const bool replaces = fs::exists(status);
  if (replaces && ::access(target_.c_str(), W_OK) != 0) fail("cannot be replaced", errno);
  make_temporary(replaces);
}

OutputFile::OutputFile(std::string name, int descriptor) : path_(std::move(name)), stream_(descriptor) {
  prepare_direct(fs::file_status(fs::file_type::unknown));
}

OutputFile OutputFile::standard_output() { return {"standard output", STDOUT_FILENO}; }

// What cannot be replaced is opened by commit() alone: to open a pipe and close it again would end its reader.
void OutputFile::prepare_direct(const fs::file_status& status) {
  direct_ = true;
  if (status.type() == fs::file_type::block) {
    throw Error(fmt::format("{}: is a disk and would be overwritten; name a file", path_.string()));
  }
  if (stream_ ? !can_write(*stream_) : ::access(target_.c_str(), W_OK) != 0) {
    fail("cannot be written", stream_ ? EBADF : errno);
  }
  const bool terminal = stream_ ? ::isatty(*stream_) == 1 : status.type() == fs::file_type::character && [&] {
    const Descriptor probe(::open(target_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    return ::isatty(probe.get()) == 1;
  }();
  if (terminal) {
    throw Error(
        fmt::format("{}: is a terminal, and the output is no text; send it to a file or a pipe", path_.string()));
  }
}

void OutputFile::make_temporary(bool replaces) {
  // What only its owner may read must not be readable for a moment either, so the file is never more open than the old.
  const mode_t mode = replaces ? permissions(target_) : 0666;
  constexpr int kMostTries = 100;  // another container's process may have this number and this folder
  NamesLock names;
  for (int tries = 0; descriptor_.get() < 0; ++tries) {
    temporary_ = temporary_name(target_, "partial");
    descriptor_ = Descriptor(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    if (descriptor_.get() >= 0 || (errno == EEXIST && tries < kMostTries)) continue;
    const int opening = errno;
    temporary_.clear();
    fail("cannot be written there", opening);
  }
  names.note(temporary_);
  if (replaces)
    static_cast<void>(::fchmod(descriptor_.get(), mode));  // what the umask took; no file system must have it
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      target_(std::move(other.target_)),
      temporary_(std::exchange(other.temporary_, fs::path{})),
      old_(std::exchange(other.old_, fs::path{})),
      descriptor_(std::move(other.descriptor_)),
      direct_(other.direct_),
      stream_(other.stream_),
      held_(std::move(other.held_)) {}

OutputFile::~OutputFile() {
  if (temporary_.empty() && old_.empty()) return;
  NamesLock names;
  if (!temporary_.empty()) {
    ::unlink(temporary_.c_str());
    names.forget(temporary_);
  }
  forget_old();
}

void OutputFile::write(const void* data, std::size_t bytes) {
  if (direct()) {
    held_.append(static_cast<const char*>(data), bytes);
  } else if (const int error = write_all(descriptor_.get(), data, bytes); error != 0) {
    fail("could not be written", error);
  }
}

void OutputFile::finish() {
  if (direct()) return;
  if (::fsync(descriptor_.get()) != 0 && errno != EINVAL) fail("could not be written to the disk", errno);
  if (::close(descriptor_.release()) != 0) fail("could not be written", errno);
}

void OutputFile::write_direct() {
  if (!direct()) return;
  const int number = stream_ ? ::fcntl(*stream_, F_DUPFD_CLOEXEC, 0) : ::open(target_.c_str(), O_WRONLY | O_CLOEXEC);
  Descriptor descriptor(number);
  if (number < 0) fail("cannot be written", errno);
  struct stat status {};
  const bool regular = ::fstat(number, &status) == 0 && S_ISREG(status.st_mode);
  // A file that somebody redirected stands where they want it; a mount is written anew.
  if (regular && !stream_ && ::ftruncate(number, 0) != 0) fail("cannot be written", errno);
  if (const int error = write_all(number, held_.data(), held_.size()); error != 0) fail("could not be written", error);
  if (regular && ::fsync(number) != 0 && errno != EINVAL) fail("could not be written to the disk", errno);
  if (::close(descriptor.release()) != 0) fail("could not be written", errno);
}

void OutputFile::keep_old() {
  std::error_code error;
  if (direct() || !fs::is_regular_file(target_, error)) return;  // nothing there, or what must not be replaced
  fs::path name = temporary_name(target_, "old");
  // Where a file cannot have two names, it is away until the new one is there.
  if (::link(target_.c_str(), name.c_str()) != 0 && ::rename(target_.c_str(), name.c_str()) != 0) {
    fail("cannot be replaced", errno);
  }
  old_ = std::move(name);
}

void OutputFile::put_in_place(NamesLock& names) {
  if (direct()) return;
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("could not be put in place", errno);
  names.forget(temporary_);
  temporary_.clear();
}

void OutputFile::forget_old() {
  if (!old_.empty()) ::unlink(std::exchange(old_, fs::path{}).c_str());
}

std::string OutputFile::take_back() {
  const bool in_place = temporary_.empty() && !direct();
  if (old_.empty()) {
    if (in_place) ::unlink(target_.c_str());
    return {};
  }
  if (::rename(old_.c_str(), target_.c_str()) == 0)
    return {};  // two names of one file: the destructor removes the second
  return fmt::format("; what was in {} is now in {}", path_.string(), std::exchange(old_, fs::path{}).string());
}

void OutputFile::commit() { commit_together({this}); }

void OutputFile::commit_together(std::initializer_list<OutputFile*> files) {
  for (OutputFile* file : files) file->finish();
  for (OutputFile* file : files) file->write_direct();
  NamesLock names;  // an interruption comes before all of what follows or after it
  try {
    if (files.size() > 1) {
      for (OutputFile* file : files) file->keep_old();
    }
    for (OutputFile* file : files) file->put_in_place(names);
  } catch (const Error& error) {
    std::string message = error.what();
    for (OutputFile* file : files) message += file->take_back();
    throw Error(message);
  }
  for (OutputFile* file : files) file->forget_old();
}

void OutputFile::fail(std::string_view what, int error) const {
  throw Error(fmt::format("{}: {}: {}", path_.string(), what, reason_of(error)));
}

}  // namespace gru
