// SPDX-License-Identifier: Apache-2.0
#include "io/npy.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gru/error.hpp"
#include "gru/io.hpp"
#include "tests/support/corrupt_files.hpp"
#include "tests/support/memory_limit.hpp"
#include "tests/support/sanitizer.hpp"
#include "tests/support/temporary_folder.hpp"

namespace {

using gru::DType;
using gru::Tensor;
using gru::test::npy_file;
using gru::test::npy_header;
using gru::test::TemporaryFolder;
using Extents = std::vector<std::int64_t>;

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

template <class T>
std::vector<T> values_of(const Tensor& tensor) {
  return {tensor.data<T>(), tensor.data<T>() + tensor.size()};
}

// The message of the gru::Error that load_npy throws; empty if it throws none.
std::string npy_refusal(const std::filesystem::path& path) {
  try {
    gru::load_npy(path);
  } catch (const gru::Error& error) {
    return error.what();
  }
  return {};
}

const std::vector<float> kSix = {1, 2, 3, 4, 5, 6};

TEST_CASE("npy: versions 1, 2 and 3 and every order of the header's keys") {
  const TemporaryFolder folder;
  const std::string headers[] = {
      npy_header("<f4", "(2, 3)"),
      "{'shape':(2,3),'fortran_order':False,'descr':'<f4'}",
      "{\"descr\": \"=f4\", \"shape\": (2, 3), \"fortran_order\": False}      \n",
      "{ 'fortran_order' : False , 'descr' : '|f4' , 'shape' : ( 2 , 3 , ) , }",
      "{'descr': 'f4', 'fortran_order': False, 'shape': (2, 3), }",
      "{'descr': 'float32', 'fortran_order': False, 'shape': (2, 3), }",
      "{u'descr': u'<f4', u'fortran_order': False, u'shape': (2L, 3L), }",
  };
  for (const char version : {'\1', '\2', '\3'}) {
    for (const std::string& header : headers) {
      CAPTURE(version);
      CAPTURE(header);
      const Tensor tensor = gru::load_npy(folder.write("x.npy", npy_file(header, bytes_of(kSix), version)));
      CHECK(tensor.dtype() == DType::float32);
      CHECK(tensor.extents() == Extents{2, 3});
      CHECK(values_of<float>(tensor) == kSix);
    }
  }
}

TEST_CASE("npy: the four element types") {
  const TemporaryFolder folder;
  const auto load = [&](std::string_view descr, const std::string& elements) {
    return gru::load_npy(folder.write("x.npy", npy_file(npy_header(descr, "(2,)"), elements)));
  };
  CHECK(values_of<float>(load("<f4", bytes_of<float>({1.5F, -2}))) == std::vector<float>{1.5F, -2});
  CHECK(values_of<double>(load("<f8", bytes_of<double>({1e-300, 2}))) == std::vector<double>{1e-300, 2});
  CHECK(values_of<std::int32_t>(load("<i4", bytes_of<std::int32_t>({-7, 8}))) == std::vector<std::int32_t>{-7, 8});
  CHECK(values_of<std::int64_t>(load("<i8", bytes_of<std::int64_t>({-7, std::int64_t{1} << 40}))) ==
        std::vector<std::int64_t>{-7, std::int64_t{1} << 40});
}

TEST_CASE("npy: every type of whole numbers is read, and each in either byte order") {
  const TemporaryFolder folder;
  const auto load = [&](std::string_view descr, const std::string& elements) {
    return values_of<std::int64_t>(gru::load_npy(folder.write("x.npy", npy_file(npy_header(descr, "(2,)"), elements))));
  };
  using namespace std::string_literals;
  using Values = std::vector<std::int64_t>;
  CHECK(load("|i1", "\xFE\x07"s) == Values{-2, 7});
  CHECK(load("|u1", "\xFE\x07"s) == Values{254, 7});
  CHECK(load("<i2", "\xFE\xFF\x07\x01"s) == Values{-2, 263});
  CHECK(load(">i2", "\xFF\xFE\x01\x07"s) == Values{-2, 263});
  CHECK(load("<u2", "\xFE\xFF\x07\x01"s) == Values{65534, 263});
  CHECK(load(">u2", "\xFF\xFE\x01\x07"s) == Values{65534, 263});
  CHECK(load("<u4", "\xFE\xFF\xFF\xFF\x07\x00\x00\x00"s) == Values{4294967294, 7});
  CHECK(load(">u4", "\xFF\xFF\xFF\xFE\x00\x00\x00\x07"s) == Values{4294967294, 7});
  CHECK(load("<u8", bytes_of<std::uint64_t>({1, std::uint64_t{1} << 62U})) == Values{1, std::int64_t{1} << 62});
  CHECK(load(">u8", std::string(7, '\0') + "\x09" + std::string(7, '\0') + "\x08") == Values{9, 8});
  CHECK(load(">i8", std::string(8, '\xFF') + std::string(7, '\0') + "\x08") == Values{-1, 8});
  const Tensor four =
      gru::load_npy(folder.write("x.npy", npy_file(npy_header(">i4", "(2,)"), "\xFF\xFF\xFF\xFE\x00\x00\x00\x07"s)));
  CHECK(values_of<std::int32_t>(four) == std::vector<std::int32_t>{-2, 7});
  // Columns first and another type at once.
  const Tensor turned = gru::load_npy(
      folder.write("x.npy", npy_file(npy_header(">u2", "(2, 2)", true), "\x00\x01\x00\x02\x00\x03\x00\x04"s)));
  CHECK(values_of<std::int64_t>(turned) == Values{1, 3, 2, 4});
}

TEST_CASE("npy: floats of either byte order, and float16") {
  const TemporaryFolder folder;
  const auto load = [&](std::string_view descr, const std::string& elements) {
    return gru::load_npy(folder.write("x.npy", npy_file(npy_header(descr, "(2,)"), elements)));
  };
  using namespace std::string_literals;
  CHECK(values_of<float>(load(">f4", "\x3F\xC0\x00\x00\xC0\x00\x00\x00"s)) == std::vector<float>{1.5F, -2});
  CHECK(values_of<double>(load(">f8", "\x3F\xF8\x00\x00\x00\x00\x00\x00\xC0\x00\x00\x00\x00\x00\x00\x00"s)) ==
        std::vector<double>{1.5, -2});
  for (const auto& [descr, elements] : {std::pair{"<f2", "\x00\x3E\x00\xC0"s}, {">f2", "\x3E\x00\xC0\x00"s}}) {
    const Tensor half = load(descr, elements);
    CHECK(half.dtype() == DType::float16);
    CHECK(gru::to_vector<float>(half.view()) == std::vector<float>{1.5F, -2});
  }
}

TEST_CASE("npy: Fortran order becomes row-major") {
  const TemporaryFolder folder;
  const auto load = [&](std::string_view shape) {
    return gru::load_npy(folder.write("x.npy", npy_file(npy_header("<f4", shape, true), bytes_of(kSix))));
  };
  CHECK(values_of<float>(load("(2, 3)")) == std::vector<float>{1, 3, 5, 2, 4, 6});
  CHECK(values_of<float>(load("(3, 2)")) == std::vector<float>{1, 4, 2, 5, 3, 6});
  CHECK(values_of<float>(load("(1, 2, 3)")) == std::vector<float>{1, 3, 5, 2, 4, 6});
  CHECK(values_of<float>(load("(3, 1, 2)")) == std::vector<float>{1, 4, 2, 5, 3, 6});
  CHECK(values_of<float>(load("(6,)")) == kSix);
}

TEST_CASE("npy: empty, scalar and higher-rank arrays") {
  const TemporaryFolder folder;
  const auto load = [&](std::string_view shape, const std::string& elements, bool fortran_order) {
    return gru::load_npy(folder.write("x.npy", npy_file(npy_header("<f4", shape, fortran_order), elements)));
  };
  for (const bool fortran_order : {false, true}) {
    CHECK(load("(0,)", "", fortran_order).extents() == Extents{0});
    CHECK(load("(3, 0, 2)", "", fortran_order).extents() == Extents{3, 0, 2});
    CHECK(load("()", bytes_of<float>({4}), fortran_order).extents().empty());
    CHECK(load("(1, 2, 1, 3)", bytes_of(kSix), fortran_order).extents() == Extents{1, 2, 1, 3});
  }
}

TEST_CASE("npy: what is saved is what is loaded, and as NumPy lays it out") {
  const TemporaryFolder folder;
  for (const Extents& extents : {Extents{}, Extents{6}, Extents{0}, Extents{2, 3}, Extents{1, 2, 3}}) {
    for (const DType dtype : {DType::float16, DType::float32, DType::float64, DType::int32, DType::int64}) {
      Tensor tensor(dtype, extents);
      for (std::size_t i = 0; i < tensor.size_bytes(); ++i) tensor.bytes()[i] = std::byte(i + 1);
      gru::save_npy(folder / "y.npy", tensor);
      const Tensor back = gru::load_npy(folder / "y.npy");
      CHECK(back.dtype() == dtype);
      CHECK(back.extents() == extents);
      REQUIRE(back.size_bytes() == tensor.size_bytes());
      CHECK(std::equal(back.bytes(), back.bytes() + back.size_bytes(), tensor.bytes()));
      CHECK((std::filesystem::file_size(folder / "y.npy") - tensor.size_bytes()) % 64 == 0);
    }
  }
  CHECK(folder.count() == 1);  // nothing but y.npy was left
}

TEST_CASE("npy: corrupt files are refused, each in words of its own") {
  const TemporaryFolder folder;
  for (const gru::test::CorruptFile& corrupt : gru::test::corrupt_npy_files()) {
    CAPTURE(corrupt.about);
    const std::filesystem::path path = folder.write("x.npy", corrupt.bytes);
    const std::string message = npy_refusal(path);
    CAPTURE(message);
    CHECK(message.starts_with(path.string()));
    CHECK(message.find(corrupt.words) != std::string::npos);
  }
}

TEST_CASE("npy: paths that name no file") {
  const TemporaryFolder folder;
  CHECK(npy_refusal(folder / "none.npy").find("no such file") != std::string::npos);
  CHECK(npy_refusal(folder.path()).find("is a folder") != std::string::npos);
  CHECK(npy_refusal("/dev/null").find("not a regular file") != std::string::npos);
}

TEST_CASE("npy: an output appears whole or not at all") {
  const TemporaryFolder folder;
  const Tensor tensor(DType::float32, {3});
  CHECK_THROWS_AS(gru::save_npy(folder / "none" / "y.npy", tensor), gru::Error);
  CHECK_THROWS_AS(gru::save_npy(folder.path(), tensor), gru::Error);
  CHECK_THROWS_AS(gru::save_npy("", tensor), gru::Error);

  // A type that .npy does not have is refused before the file there is touched.
  const std::filesystem::path kept = folder.write("y.npy", "kept");
  CHECK_THROWS_AS(gru::save_npy(kept, Tensor(DType::bfloat16, {3})), gru::Error);
  CHECK(gru::test::read_bytes(kept) == "kept");
  CHECK(folder.count() == 1);

  // A link stays a link; what it points to is replaced.
  std::filesystem::create_symlink(kept, folder / "link.npy");
  gru::save_npy(folder / "link.npy", tensor);
  CHECK(std::filesystem::is_symlink(folder / "link.npy"));
  CHECK(gru::load_npy(kept).extents() == Extents{3});
  CHECK(folder.count() == 2);

  // Where it points to may be nothing yet.
  std::filesystem::remove(kept);
  gru::save_npy(folder / "link.npy", tensor);
  CHECK(std::filesystem::is_symlink(folder / "link.npy"));
  CHECK(gru::load_npy(kept).extents() == Extents{3});
  std::filesystem::create_symlink("loop.npy", folder / "loop.npy");
  CHECK_THROWS_AS(gru::save_npy(folder / "loop.npy", tensor), gru::Error);
}

TEST_CASE("npy: a file that is replaced leaves its permissions") {
  using std::filesystem::perms;
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.write("y.npy", "secret");
  for (const perms mode : {perms{0600}, perms{0664}}) {
    std::filesystem::permissions(path, mode);
    gru::save_npy(path, Tensor(DType::float32, {3}));
    CHECK(std::filesystem::status(path).permissions() == mode);
  }
}

TEST_CASE("npy: of files committed together all are replaced or none") {
  const TemporaryFolder folder;
  const auto stage = [&](const char* name) { return gru::stage_npy(folder / name, Tensor(DType::float32, {3})); };
  folder.write("old.npy", "old");
  {
    gru::OutputFile old = stage("old.npy");
    gru::OutputFile fresh = stage("fresh.npy");
    gru::OutputFile last = stage("last.npy");
    std::filesystem::create_directory(folder / "last.npy");  // in the way since it was asked for
    CHECK_THROWS_WITH_AS(gru::OutputFile::commit_together({&old, &fresh, &last}), doctest::Contains("last.npy"),
                         gru::Error);
  }
  CHECK(gru::test::read_bytes(folder / "old.npy") == "old");
  CHECK(folder.count() == 2);

  std::filesystem::remove(folder / "last.npy");
  {
    gru::OutputFile old = stage("old.npy");
    gru::OutputFile last = stage("last.npy");
    gru::OutputFile::commit_together({&old, &last});
  }
  CHECK(gru::load_npy(folder / "old.npy").extents() == Extents{3});
  CHECK(gru::load_npy(folder / "last.npy").extents() == Extents{3});
  CHECK(folder.count() == 2);
}

TEST_CASE("npy: a file that is larger than memory is refused by name") {
  if (gru::test::kAnySanitizer) return;
  constexpr std::size_t kElements = std::size_t{1} << 27U;
  const TemporaryFolder folder;
  for (const bool fortran_order : {false, true}) {
    const std::string header = npy_file(npy_header("<f4", "(2, 67108864)", fortran_order), "");
    const std::filesystem::path path = folder.write("x.npy", header);
    std::filesystem::resize_file(path, header.size() + 4 * kElements);  // a hole: it takes no space
    const gru::test::MemoryLimit limit((fortran_order ? 6 : 2) * kElements);
    const std::string message = npy_refusal(path);
    CAPTURE(message);
    CHECK(message.starts_with(path.string()));
    CHECK(message.find("536870912 bytes") != std::string::npos);
  }
}

TEST_CASE("npy: check_writable leaves nothing behind and changes nothing") {
  const TemporaryFolder folder;
  CHECK_NOTHROW(gru::check_writable(folder / "y.npy"));
  CHECK(folder.count() == 0);
  const std::filesystem::path kept = folder.write("y.npy", "kept");
  CHECK_NOTHROW(gru::check_writable(kept));
  CHECK(gru::test::read_bytes(kept) == "kept");
  CHECK_THROWS_AS(gru::check_writable(folder / "none" / "y.npy"), gru::Error);
  CHECK_THROWS_AS(gru::check_writable(folder.path()), gru::Error);
}

}  // namespace
