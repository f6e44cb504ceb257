// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <thread>

#include "gru/error.hpp"
#include "gru/io.hpp"
#include "io/file.hpp"
#include "io/npy.hpp"
#include "io/unfinished.hpp"
#include "tests/support/corrupt_files.hpp"
#include "tests/support/temporary_folder.hpp"

// Inputs and outputs that are no regular files, and names that are.

namespace {

using gru::test::npy_file;
using gru::test::npy_header;
using gru::test::read_bytes;
using gru::test::TemporaryFolder;

std::string descriptor_path(int descriptor) { return "/dev/fd/" + std::to_string(descriptor); }

TEST_CASE("streams: a pipe with a name is read to its end and written at once") {
  const TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  gru::Tensor large(gru::DType::float32, {1000, 1000});  // more than a pipe holds
  large.data<float>()[999'999] = 7;
  std::thread writer([&] { gru::save_npy(pipe, large); });
  const gru::Tensor back = gru::load_npy(pipe);
  writer.join();
  CHECK(back.extents() == large.extents());
  CHECK(back.data<float>()[999'999] == 7);
  CHECK(folder.count() == 1);

  // To ask whether it can be written does not open it: nobody would be there.
  CHECK_NOTHROW(gru::check_writable(pipe));
}

TEST_CASE("streams: weights from a pipe") {
  const TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const std::string bytes = gru::test::state_dict(gru::test::gru_tensors("", 3, 5));
  std::thread writer([&] {
    const int descriptor = ::open(pipe.c_str(), O_WRONLY);
    static_cast<void>(::write(descriptor, bytes.data(), bytes.size()));
    ::close(descriptor);
  });
  CHECK(gru::load_weights(pipe).config().hidden_size == 5);
  writer.join();
}

TEST_CASE("streams: a path that names a descriptor is that descriptor, where it stands") {
  const TemporaryFolder folder;
  const std::string bytes = npy_file(npy_header("<f4", "(1,)"), "abcd");
  const std::string file = folder.write("x.npy", "skip" + bytes);
  const int in = ::open(file.c_str(), O_RDONLY);
  REQUIRE(::lseek(in, 4, SEEK_SET) == 4);
  CHECK(gru::load_npy(descriptor_path(in)).size() == 1);
  ::close(in);
  CHECK_THROWS_WITH_AS(gru::load_npy(descriptor_path(in)), doctest::Contains("is not open"), gru::Error);

  const std::string to = folder.write("y.npy", "kept");
  const int out = ::open(to.c_str(), O_WRONLY | O_APPEND);
  gru::save_npy(descriptor_path(out), gru::load_npy(folder.write("x.npy", bytes)));
  ::close(out);
  CHECK(read_bytes(to).starts_with("kept\x93NUMPY"));
  CHECK_THROWS_AS(gru::check_writable(descriptor_path(out)), gru::Error);
}

TEST_CASE("streams: devices") {
  CHECK_NOTHROW(gru::save_npy("/dev/null", gru::Tensor(gru::DType::float32, {3})));
  CHECK_THROWS_WITH_AS(gru::load_npy("/dev/zero"), doctest::Contains("not a regular file"), gru::Error);
  if (std::filesystem::exists("/dev/full")) {
    CHECK_THROWS_WITH_AS(gru::save_npy("/dev/full", gru::Tensor(gru::DType::float32, {3})),
                         doctest::Contains("could not be written"), gru::Error);
  }
  CHECK(std::filesystem::is_character_file("/dev/null"));
}

TEST_CASE("streams: of a file and a stream the stream is first, and the file stays away if it fails") {
  if (!std::filesystem::exists("/dev/full")) return;
  const TemporaryFolder folder;
  const gru::Tensor tensor(gru::DType::float32, {3});
  {
    gru::OutputFile file = gru::stage_npy(folder / "y.npy", tensor);
    gru::OutputFile full = gru::stage_npy("/dev/full", tensor);
    CHECK_THROWS_AS(gru::OutputFile::commit_together({&file, &full}), gru::Error);
  }
  CHECK(folder.count() == 0);
}

TEST_CASE("files: the longest names that a folder holds") {
  const TemporaryFolder folder;
  const gru::Tensor tensor(gru::DType::float32, {3});
  for (const std::size_t size : {230, 254, 255}) {
    const std::string name(size, 'y');
    gru::save_npy(folder / name, tensor);
    gru::save_npy(folder / name, tensor);  // once more, where it is there
    gru::OutputFile one = gru::stage_npy(folder / name, tensor);
    gru::OutputFile other = gru::stage_npy(folder / "h", tensor);
    gru::OutputFile::commit_together({&one, &other});
    CHECK(gru::load_npy(folder / name).size() == 3);
  }
  CHECK(folder.count() == 4);
  CHECK_THROWS_WITH_AS(gru::save_npy(folder / std::string(256, 'y'), tensor), doctest::Contains("too long"),
                       gru::Error);
  CHECK(folder.count() == 4);
}

}  // namespace
