// SPDX-License-Identifier: Apache-2.0
#include "io/recognise.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "gru/error.hpp"
#include "gru/io.hpp"
#include "tests/support/corrupt_files.hpp"
#include "tests/support/temporary_folder.hpp"

namespace {

using gru::Wanted;
using gru::test::TemporaryFolder;

template <class Load>
std::string recognise_refusal(const Load& load) {
  try {
    load();
  } catch (const gru::Error& error) {
    return error.what();
  }
  return {};
}

// The first local file of a zip archive, stored under this name.
std::string zip(std::string_view name) {
  std::string bytes = "PK\x03\x04" + std::string(26, '\0');
  bytes[26] = static_cast<char>(name.size());
  return bytes.append(name) + std::string(64, 'x');
}

TEST_CASE("recognise: what a file is and what to do with it, as weights and as an array") {
  using namespace std::string_literals;
  struct Row {
    std::string bytes;
    std::string_view as_weights, as_array;  ///< words of the message
  };
  const std::string index = R"({"metadata": {}, "weight_map": {"a": "m-00001-of-00002.safetensors"}})";
  const std::string torch = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03";
  const std::vector<Row> rows = {
      {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull", "git lfs pull"},
      {"<!DOCTYPE html><html><body>404</body></html>", "is a web page", "is a web page"},
      {"\n  <HTML lang=\"en\"><head>", "is a web page", "is a web page"},
      {"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "download the file again", "download"},
      {zip("weight_ih_l0.npy"), "safetensors.numpy.save_file", "numpy.load(path)['weight_ih_l0']"},
      {zip("archive/data.pkl"), "is a PyTorch file", "torch.load"},
      {zip("model/version"), "weights_only=True", "is a PyTorch file"},
      {zip("readme.txt"), "safetensors.torch.save_file", "is a zip archive"},
      {torch, "is a PyTorch file", "is a Python pickle"},
      {"\x80\x04\x95\x10\x00\x00\x00"s, "is a Python pickle", "is a Python pickle"},
      {"GGUF\x03\x00\x00\x00"s, "is a GGUF file", "is a GGUF file"},
      {"\x08\x07\x12\x07pytorch\x1a\x05" + "2.1.0"s, "is an ONNX model", "is an ONNX model"},
      {"\x89HDF\r\n\x1a\n" + std::string(64, '\0'), "is an HDF5 file", "is an HDF5 file"},
      {"\x1c\x00\x00\x00TFL3"s, "TensorFlow Lite", "TensorFlow Lite"},
      {"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"s, "gunzip", "gunzip"},
      {"\x28\xb5\x2f\xfd\x04\x00\x00\x00\x00\x00"s, "unzstd", "unzstd"},
      {std::string(257, '\0') + "ustar" + std::string(250, '\0'), "is a tar archive", "is a tar archive"},
      {R"({"a": 1, "b": [1, 2]})", "no \"weight_map\"", "is a JSON text"},
      {index, "not beside it", "is the index of a sharded checkpoint"},
      {"1.5 2.5 3.5\n4.5 5.5 6.5\n", "is a text", "numpy.loadtxt"},
      {gru::test::npy_file(gru::test::npy_header("<f4", "(1,)"), "1234"), "is a .npy file", ""},
      {gru::test::state_dict(gru::test::gru_tensors("", 3, 5)), "", "is a safetensors file"},
      {std::string(64, '\0'), "does not begin with '{'", "does not begin with \\x93NUMPY"},
  };
  const TemporaryFolder folder;
  for (const Row& row : rows) {
    const std::filesystem::path path = folder.write("file", row.bytes);
    const std::string as_weights = recognise_refusal([&] { gru::load_weights(path); });
    const std::string as_array = recognise_refusal([&] { gru::load_npy(path); });
    CAPTURE(as_weights);
    CAPTURE(as_array);
    CHECK(as_weights.find(row.as_weights) != std::string::npos);
    CHECK(as_array.find(row.as_array) != std::string::npos);
    CHECK(as_weights.empty() == row.as_weights.empty());
    CHECK(as_array.empty() == row.as_array.empty());
  }
}

TEST_CASE("recognise: every beginning of every sign is no crash") {
  for (const std::string& bytes :
       {zip("weight.npy"), std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c"), std::string("\x08\x07\x12"),
        std::string("<!doctype html"), std::string("{\"weight_map\"")}) {
    for (std::size_t size = 0; size <= bytes.size(); ++size) {
      gru::recognise(std::string_view(bytes).substr(0, size), Wanted::array);
      gru::recognise(std::string_view(bytes).substr(0, size), Wanted::weights);
    }
  }
  CHECK(gru::recognise("", Wanted::array).empty());
}

TEST_CASE("recognise: a safetensors file whose length begins with the byte of '{' is one") {
  using namespace std::string_literals;
  const std::string begin = "{\x01\x00\x00\x00\x00\x00\x00{\"a\""s;
  CHECK(gru::begins_safetensors(begin));
  CHECK_FALSE(gru::begins_json(begin));
  CHECK_FALSE(gru::begins_safetensors("{\"a\": {}, {"));
  CHECK(gru::begins_json("\xEF\xBB\xBF \n{\"a\": 1}"));
}

}  // namespace
