// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "gru/error.hpp"
#include "gru/io.hpp"
#include "tests/support/corrupt_files.hpp"
#include "tests/support/memory_limit.hpp"
#include "tests/support/sanitizer.hpp"
#include "tests/support/temporary_folder.hpp"

namespace {

using gru::test::safetensors_file;
using gru::test::TemporaryFolder;
using Extents = std::vector<std::int64_t>;

template <class Load>
std::string safetensors_refusal(const Load& load) {
  try {
    load();
  } catch (const gru::Error& error) {
    return error.what();
  }
  return {};
}

TEST_CASE("safetensors: known tensors are read, others stepped over, offsets in any order") {
  const TemporaryFolder folder;
  std::string elements(23, '\0');
  const float a[] = {1.5F, -2};
  const std::int32_t b = -7;
  std::memcpy(elements.data() + 11, a, sizeof a);
  std::memcpy(elements.data() + 19, &b, sizeof b);
  const std::filesystem::path path = folder.write(
      "w.safetensors",
      safetensors_file(R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[11,19]},)"
                       R"("q":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]},)"
                       R"("e":{"dtype":"F64","shape":[0,7],"data_offsets":[11,11]},)"
                       R"("new":{"dtype":"Z9","shape":[100],"data_offsets":[3,11]},)"
                       R"("b":{"data_offsets":[19,23],"shape":[],"dtype":"I32"}}    )",
                       elements));
  const auto tensors = gru::load_safetensors(path);
  REQUIRE(tensors.size() == 3);
  CHECK(tensors[0].first == "a");
  CHECK(tensors[0].second.extents() == Extents{2, 1});
  CHECK(tensors[0].second.data<float>()[0] == 1.5F);
  CHECK(tensors[0].second.data<float>()[1] == -2.0F);
  CHECK(tensors[1].first == "e");
  CHECK(tensors[1].second.extents() == Extents{0, 7});
  CHECK(tensors[2].first == "b");
  CHECK(tensors[2].second.extents().empty());
  CHECK(tensors[2].second.data<std::int32_t>()[0] == -7);
}

TEST_CASE("safetensors: metadata that is null is none, and blanks may stand behind the header") {
  const TemporaryFolder folder;
  const auto tensors = gru::load_safetensors(folder.write(
      "w", safetensors_file("{\"__metadata__\": null, \"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": "
                            "[0, 4]}} \n\r\t ",
                            "abcd")));
  REQUIRE(tensors.size() == 1);
  CHECK(tensors[0].first == "a");
}

TEST_CASE("safetensors: a file without tensors") {
  const TemporaryFolder folder;
  CHECK(gru::load_safetensors(folder.write("w.safetensors", safetensors_file("{}", ""))).empty());
}

TEST_CASE("safetensors: corrupt files are refused, each in words of its own") {
  const TemporaryFolder folder;
  for (const gru::test::CorruptFile& corrupt : gru::test::corrupt_safetensors_files()) {
    CAPTURE(corrupt.about);
    const std::filesystem::path path = folder.write("w.safetensors", corrupt.bytes);
    const std::string as_weights = safetensors_refusal([&] { gru::load_weights(path); });
    const std::string as_tensors = safetensors_refusal([&] { gru::load_safetensors(path); });
    CAPTURE(as_weights);
    CHECK(as_weights.starts_with(path.string()));
    CHECK(as_weights.find(corrupt.words) != std::string::npos);
    CHECK(as_tensors == as_weights);
  }
}

TEST_CASE("safetensors: every cut and every flipped header byte is refused or read, never a crash") {
  const TemporaryFolder folder;
  const std::string good = gru::test::state_dict(gru::test::gru_tensors("gru.", 2, 3, 2, true));
  for (std::size_t size = 0; size < good.size(); size += size < 2000 ? 1 : 97) {
    CAPTURE(size);
    const std::filesystem::path path = folder.write("w.safetensors", good.substr(0, size));
    CHECK_FALSE(safetensors_refusal([&] { gru::load_weights(path); }).empty());
  }
  const std::size_t header_end = good.find("}  ");
  for (std::size_t at = 0; at < header_end; ++at) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ (at % 2 == 0 ? 1 : 0x80));
    const std::filesystem::path path = folder.write("w.safetensors", bytes);
    safetensors_refusal([&] { gru::load_weights(path); });
  }
}

TEST_CASE("safetensors: a file that is larger than memory is refused by name") {
  if (gru::test::kAnySanitizer) return;
  const TemporaryFolder folder;
  const std::string header =
      safetensors_file(R"({"weight_ih_l0":{"dtype":"F32","shape":[24,4194304],"data_offsets":[0,402653184]},)"
                       R"("weight_hh_l0":{"dtype":"F32","shape":[24,8],"data_offsets":[402653184,402653952]}})",
                       "");
  const std::filesystem::path path = folder.write("w.safetensors", header);
  std::filesystem::resize_file(path, header.size() + 402653952);  // a hole: it takes no space
  const gru::test::MemoryLimit limit(std::size_t{1} << 27U);
  for (const std::string& message : {safetensors_refusal([&] { gru::load_weights(path); }),
                                     safetensors_refusal([&] { gru::load_safetensors(path); })}) {
    CAPTURE(message);
    CHECK(message.starts_with(path.string()));
    CHECK(message.find(" bytes") != std::string::npos);
  }
}

TEST_CASE("safetensors: what is saved is what is loaded, each tensor at a multiple of its element's size") {
  const TemporaryFolder folder;
  std::vector<std::pair<std::string, gru::Tensor>> tensors;
  const auto add = [&](const std::string& name, gru::DType dtype, const Extents& extents) {
    gru::Tensor tensor(dtype, extents);
    for (std::size_t i = 0; i < tensor.size_bytes(); ++i) tensor.bytes()[i] = std::byte(i + 1);
    tensors.emplace_back(name, std::move(tensor));
  };
  add("half", gru::DType::float16, {3});
  add("gru.weight_ih_l0", gru::DType::float32, {5, 1, 2, 3});
  add("a \"quoted\" name, \xC3\xA9\n", gru::DType::bfloat16, {1});
  add("wide", gru::DType::float64, {2});
  add("", gru::DType::int32, {});
  add("empty", gru::DType::int64, {0, 7});
  const std::filesystem::path path = folder / "w.safetensors";
  gru::save_safetensors(path, tensors);
  const auto back = gru::load_safetensors(path);
  REQUIRE(back.size() == tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const auto found = std::ranges::find(back, name, [](const auto& named) { return named.first; });
    REQUIRE(found != back.end());
    CHECK(found->second.dtype() == tensor.dtype());
    CHECK(found->second.extents() == tensor.extents());
    REQUIRE(found->second.size_bytes() == tensor.size_bytes());
    CHECK(std::equal(tensor.bytes(), tensor.bytes() + tensor.size_bytes(), found->second.bytes()));
  }
  gru::InputFile file(path);
  for (const gru::SafetensorsEntry& entry : gru::read_safetensors_header(file).tensors) {
    CHECK(entry.begin % gru::size_of(*entry.dtype) == 0);
  }
  gru::save_safetensors(path, {});
  CHECK(gru::load_safetensors(path).empty());
  CHECK(folder.count() == 1);
}

TEST_CASE("safetensors: names that a file cannot hold are refused before the file there is touched") {
  const TemporaryFolder folder;
  const std::filesystem::path kept = folder.write("w.safetensors", "kept");
  const auto refused = [&](const std::vector<std::string>& names) {
    std::vector<std::pair<std::string, gru::Tensor>> tensors;
    for (const std::string& name : names) tensors.emplace_back(name, gru::Tensor(gru::DType::float32, {1}));
    const std::string message = safetensors_refusal([&] { gru::save_safetensors(kept, tensors); });
    CHECK(message.starts_with(kept.string()));
    CHECK(gru::test::read_bytes(kept) == "kept");
    CHECK(folder.count() == 1);
    return message;
  };
  CHECK(refused({"a", "b", "a"}).find("two tensors are called 'a'") != std::string::npos);
  CHECK(refused({"__metadata__"}).find("rename it") != std::string::npos);
  CHECK(refused({"\xFF"}).find("not UTF-8") != std::string::npos);
}

}  // namespace
