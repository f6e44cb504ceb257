// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "gru/error.hpp"
#include "gru/io.hpp"
#include "tests/support/corrupt_files.hpp"
#include "tests/support/temporary_folder.hpp"

// Checkpoints whose tensors lie in several files, with an index of which lies where.

namespace {

using gru::Config;
using gru::test::FileTensor;
using gru::test::gru_tensors;
using gru::test::safetensors_file;
using gru::test::state_dict;
using gru::test::TemporaryFolder;

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

std::string shards_refusal(const std::filesystem::path& path) {
  try {
    gru::load_weights(path);
  } catch (const gru::Error& error) {
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, std::string_view words) { return text.find(words) != std::string::npos; }

std::string placed(const std::string& tensor, const std::string& file) { return "\"" + tensor + "\":\"" + file + "\""; }

std::string index_of(const std::string& entries) {
  return R"({"metadata": {"total_size": 1, "nested": [{"weight_map": 3}]}, "weight_map": {)" + entries + "}}";
}

std::string entries_of(const std::vector<FileTensor>& tensors, const std::string& file) {
  std::string text;
  for (const FileTensor& tensor : tensors) text += (text.empty() ? "" : ",") + placed(tensor.name, file);
  return text;
}

// Two layers, one in each file.
struct Sharded {
  Sharded() {
    const std::vector<FileTensor> all = gru_tensors("rnn.", 3, 5, 2);
    first.assign(all.begin(), all.begin() + 4);
    second.assign(all.begin() + 4, all.end());
    folder.write(kFirst, state_dict(first));
    folder.write(kSecond, state_dict(second));
    write_index(entries_of(first, kFirst) + "," + entries_of(second, kSecond));
  }
  std::filesystem::path write_index(const std::string& entries) const {
    return folder.write(kIndex, index_of(entries));
  }
  TemporaryFolder folder;
  std::vector<FileTensor> first, second;
};

TEST_CASE("shards: an index loads what lies in several files") {
  const Sharded sharded;
  const Config expected{.input_size = 3, .hidden_size = 5, .num_layers = 2};
  CHECK(gru::load_weights(sharded.folder / kIndex).config() == expected);
  CHECK(gru::load_safetensors(sharded.folder / kIndex).size() == 8);

  // From the folder itself, where the index has no folder in its path.
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(sharded.folder.path());
  CHECK(gru::load_weights(kIndex).config() == expected);
  std::filesystem::current_path(before);

  // Files that are links, as a cache of downloads keeps them.
  const TemporaryFolder blobs;
  std::filesystem::rename(sharded.folder / kFirst, blobs / "blob");
  std::filesystem::create_symlink(blobs / "blob", sharded.folder / kFirst);
  CHECK(gru::load_weights(sharded.folder / kIndex).config() == expected);
}

TEST_CASE("shards: the values come from the files that the index names") {
  const TemporaryFolder folder;
  std::string one = state_dict({{"weight_ih_l0", {3, 1}}, {"bias_ih_l0", {3}}});
  std::string other = state_dict({{"bias_hh_l0", {3}}, {"weight_hh_l0", {3, 1}}});
  const auto fill = [](std::string& file, float begin) {
    const float values[] = {begin, begin + 1, begin + 2, begin + 3, begin + 4, begin + 5};
    file.replace(file.size() - sizeof values, sizeof values,
                 std::string(reinterpret_cast<const char*>(values), sizeof values));
  };
  fill(one, 1);
  fill(other, 11);
  folder.write("a.safetensors", one);
  folder.write("b.safetensors", other);
  const auto index = folder.write(
      kIndex, index_of(placed("weight_ih_l0", "a.safetensors") + "," + placed("bias_ih_l0", "a.safetensors") + "," +
                       placed("bias_hh_l0", "b.safetensors") + "," + placed("weight_hh_l0", "b.safetensors")));
  const gru::Weights weights = gru::load_weights(index);
  const gru::CellWeights& cell = weights.cell(0, 0);
  CHECK(gru::to_vector<float>(cell.weight_ih) == std::vector<float>{1, 2, 3});
  CHECK(gru::to_vector<float>(cell.bias_ih) == std::vector<float>{4, 5, 6});
  CHECK(gru::to_vector<float>(cell.bias_hh) == std::vector<float>{11, 12, 13});
  CHECK(gru::to_vector<float>(cell.weight_hh) == std::vector<float>{14, 15, 16});
}

TEST_CASE("shards: one file of several is refused, and the index named") {
  const Sharded sharded;
  // By its name alone.
  for (const char* name : {kFirst, kSecond}) {
    const std::string message = shards_refusal(sharded.folder / name);
    CHECK(contains(message, "of a sharded checkpoint"));
    CHECK(contains(message, kIndex));
  }
  // By an index beside it.
  const TemporaryFolder other;
  other.write("a.safetensors", state_dict(sharded.first));
  other.write("b.safetensors", state_dict(sharded.second));
  other.write("broken.safetensors.index.json", "{");
  other.write(kIndex,
              index_of(entries_of(sharded.first, "a.safetensors") + "," + entries_of(sharded.second, "b.safetensors")));
  CHECK(contains(shards_refusal(other / "a.safetensors"), kIndex));
  // By what its header says.
  std::string marked = state_dict(sharded.first);
  const std::string_view format = R"("format":"pt")";
  const std::string_view shards = R"("num_shards":"2")";
  const std::size_t at = marked.find(format);
  const std::size_t header_end = marked.find("}  ") + 3;
  const std::string json = marked.substr(8, header_end - 8).replace(at - 8, format.size(), shards);
  marked = safetensors_file(json, marked.substr(header_end));
  const TemporaryFolder alone;
  CHECK(contains(shards_refusal(alone.write("w.safetensors", marked)), "'num_shards': '2'"));

  // A checkpoint of one file is whole, and so is a file that no index names with others.
  CHECK(shards_refusal(alone.write("model-00001-of-00001.safetensors", state_dict(sharded.first))).empty());
  alone.write(kIndex, index_of(entries_of(sharded.first, "model-00001-of-00001.safetensors")));
  CHECK(shards_refusal(alone / "model-00001-of-00001.safetensors").empty());
  CHECK(shards_refusal(alone / kIndex).empty());
}

TEST_CASE("shards: an index that cannot be trusted is refused, each in words of its own") {
  const Sharded sharded;
  const std::string good = entries_of(sharded.first, kFirst);
  struct Row {
    std::string index;
    std::string_view words;
  };
  const auto placing = [&](const std::string& file) { return index_of(good + "," + placed("x", file)); };
  const std::vector<Row> rows = {
      {"{", "not valid JSON"},
      {"{\"weight_map\": {}}", "names no tensor"},
      {"{\"metadata\": {}}", "no \"weight_map\""},
      {"{\"weight_map\": [1]}", "has a list"},
      {"{\"weight_map\": \"x\"}", "has a text"},
      {"{\"weight_map\": {\"a\": 7}}", "has a number"},
      {"{\"weight_map\": {\"a\": null}}", "has null"},
      {"{\"weight_map\": {\"a\": {\"b\": \"c\"}}}", "has an object"},
      {"{\"weight_map\": {\"a\": [\"b\"]}}", "has a list"},
      {"{\"weight_map\": {\"a\": \"b\"}, \"weight_map\": {}}", "two of \"weight_map\""},
      {index_of(good + "," + good), "twice"},
      {placing("/etc/passwd"), "which is a path"},
      {placing("../model.safetensors"), "which is a path"},
      {placing("a/b.safetensors"), "which is a path"},
      {placing("a\\\\b.safetensors"), "which is a path"},
      {placing(".."), "no file's name"},
      {placing("."), "no file's name"},
      {placing(""), "no file's name"},
      {placing("a\\u0000b"), "which is a path"},
      {placing("pytorch_model-00001-of-00002.bin"), "a PyTorch file"},
      {placing("none.safetensors"), "'none.safetensors', which is not beside it"},
      {placing(kIndex), "is the index of a sharded checkpoint"},
      {placing(kSecond), "which the index does not name"},
      {index_of(good + "," + placed("gone", kFirst)), "places the tensor 'gone'"},
      {index_of(good + "," + placed("rnn.weight_ih_l1", kFirst) + "," +
                entries_of({sharded.second.begin() + 1, sharded.second.end()}, kSecond)),
       "which the index places in"},
      {index_of(good) + std::string(1, '\0'), "zero byte"},
  };
  for (const Row& row : rows) {
    const std::string message = shards_refusal(sharded.folder.write(kIndex, row.index));
    CAPTURE(row.index);
    CAPTURE(message);
    CHECK(contains(message, row.words));
  }
  std::filesystem::create_directory(sharded.folder / "folder.safetensors");
  CHECK(contains(shards_refusal(sharded.folder.write(kIndex, placing("folder.safetensors"))), "not a regular file"));
}

TEST_CASE("shards: a file that is corrupt is refused by its own name") {
  const Sharded sharded;
  sharded.folder.write(kSecond, state_dict(sharded.second).substr(0, 40));
  CHECK(contains(shards_refusal(sharded.folder / kIndex), (sharded.folder / kSecond).string()));
}

}  // namespace
