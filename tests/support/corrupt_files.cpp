// SPDX-License-Identifier: Apache-2.0
#include "tests/support/corrupt_files.hpp"

#include <fmt/ranges.h>

#include <algorithm>

#include "src/format.hpp"

namespace gru::test {
namespace {

std::string little_endian(std::uint64_t value, std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes; ++i) text += static_cast<char>((value >> (8 * i)) & 0xFFU);
  return text;
}

std::string zeros(std::size_t bytes) { return std::string(bytes, '\0'); }

// A file with one tensor, described by hand.
std::string one_tensor(std::string_view fields, std::size_t bytes) {
  return safetensors_file(fmt::format(R"({{"weight_ih_l0":{{{}}}}})", fields), zeros(bytes));
}

std::string without(std::vector<FileTensor> tensors, std::string_view name) {
  std::erase_if(tensors, [&](const FileTensor& t) { return t.name == name; });
  return state_dict(tensors);
}

std::string with(std::vector<FileTensor> tensors, const FileTensor& changed) {
  std::ranges::find(tensors, changed.name, &FileTensor::name)->extents = changed.extents;
  std::ranges::find(tensors, changed.name, &FileTensor::name)->dtype = changed.dtype;
  return state_dict(tensors);
}

std::vector<FileTensor> joined(std::vector<FileTensor> a, const std::vector<FileTensor>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// weight_ih, weight_hh and biases of another kind of layer: `gates` times H rows.
std::vector<FileTensor> other_layer(std::string_view prefix, std::int64_t gates) {
  return {{fmt::format("{}weight_ih_l0", prefix), {gates * 5, 3}},
          {fmt::format("{}weight_hh_l0", prefix), {gates * 5, 5}},
          {fmt::format("{}bias_ih_l0", prefix), {gates * 5}},
          {fmt::format("{}bias_hh_l0", prefix), {gates * 5}}};
}

std::size_t bytes_of(std::string_view dtype) {
  if (dtype == "BOOL" || dtype == "I8") return 1;
  if (dtype == "F16" || dtype == "BF16") return 2;
  return dtype == "F64" || dtype == "I64" ? 8 : 4;
}

}  // namespace

std::string npy_file(std::string_view header, std::string_view elements, char major) {
  std::string file = "\x93NUMPY";
  file += major;
  file += '\0';
  file += little_endian(header.size(), major == 1 ? 2 : 4);
  file += header;
  return file.append(elements);
}

std::string npy_header(std::string_view descr, std::string_view shape, bool fortran_order) {
  return fmt::format("{{'descr': '{}', 'fortran_order': {}, 'shape': {}, }}\n", descr, fortran_order ? "True" : "False",
                     shape);
}

std::string safetensors_file(std::string_view json, std::string_view elements) {
  return little_endian(json.size(), 8).append(json).append(elements);
}

std::string state_dict(const std::vector<FileTensor>& tensors) {
  std::string json = R"({"__metadata__":{"format":"pt"})";
  std::size_t begin = 0;
  for (const FileTensor& tensor : tensors) {
    std::size_t end = bytes_of(tensor.dtype);
    for (const std::int64_t extent : tensor.extents) end *= static_cast<std::size_t>(extent);
    end += begin;
    json += fmt::format(R"(,"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", tensor.name, tensor.dtype,
                        fmt::join(tensor.extents, ","), begin, end);
    begin = end;
  }
  return safetensors_file(json + "}  ", zeros(begin));
}

std::vector<FileTensor> gru_tensors(std::string_view prefix, std::int64_t input, std::int64_t hidden,
                                    std::int64_t layers, bool bidirectional, bool bias) {
  std::vector<FileTensor> tensors;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    for (int direction = 0; direction < (bidirectional ? 2 : 1); ++direction) {
      const std::string place = fmt::format("_l{}{}", layer, direction == 1 ? "_reverse" : "");
      const std::int64_t width = layer == 0 ? input : (bidirectional ? 2 : 1) * hidden;
      tensors.push_back({fmt::format("{}weight_ih{}", prefix, place), {3 * hidden, width}});
      tensors.push_back({fmt::format("{}weight_hh{}", prefix, place), {3 * hidden, hidden}});
      if (!bias) continue;
      tensors.push_back({fmt::format("{}bias_ih{}", prefix, place), {3 * hidden}});
      tensors.push_back({fmt::format("{}bias_hh{}", prefix, place), {3 * hidden}});
    }
  }
  return tensors;
}

std::vector<CorruptFile> corrupt_npy_files() {
  const auto file = [](std::string_view header, std::size_t bytes = 24) { return npy_file(header, zeros(bytes)); };
  const auto shaped = [&](std::string_view shape, std::size_t bytes = 24) {
    return file(npy_header("<f4", shape), bytes);
  };
  const auto typed = [&](std::string_view descr) { return file(npy_header(descr, "(2, 3)")); };
  const std::string good = shaped("(2, 3)");
  const std::string good_v2 = npy_file(npy_header("<f4", "(2, 3)"), zeros(24), 2);
  return {
      {"empty", "", "it has 0 bytes"},
      {"cut off within the magic", good.substr(0, 5), "it has 5 bytes"},
      {"another format", "PK\x03\x04 something zipped", "is a zip archive"},
      {"nothing known", std::string(64, '\x01'), "does not begin with"},
      {"version 0", npy_file(npy_header("<f4", "(2, 3)"), zeros(24), '\0'), "version 0.0"},
      {"version 9", npy_file(npy_header("<f4", "(2, 3)"), zeros(24), 9), "version 9.0"},
      {"cut off within the header's length", good_v2.substr(0, 11), "ends within the length of its header"},
      {"cut off within the header", good.substr(0, 40), "ends within its header"},
      {"a header longer than any", "\x93NUMPY\x02" + zeros(1) + "\xFF\xFF\xFF\xFF{}",
       "claims a header of 4294967295 bytes"},
      {"cut off within the elements", good.substr(0, good.size() - 1), "it is cut off"},
      {"bytes appended", good + "x", "something is appended"},
      {"no dict", file("[1, 2]\n"), "has no '{'"},
      {"an empty dict", file("{}\n"), "has no 'descr'"},
      {"no shape", file("{'descr': '<f4', 'fortran_order': False}\n"), "has no 'shape'"},
      {"no fortran_order", file("{'descr': '<f4', 'shape': (2, 3)}\n"), "has no 'fortran_order'"},
      {"shape twice", file("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'shape': (6,)}\n"),
       "'shape' twice"},
      {"an unknown key", file("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'x': 1}\n"), "names 'x'"},
      {"a dict that does not end", file("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)\n"),
       "where one must stand"},
      {"text behind the dict", file(npy_header("<f4", "(2, 3)") + "import os"), "goes on behind"},
      {"a quotation that does not end", file("{'descr: 1}\n"), "quotation that does not end"},
      {"a zero byte in the header", file("{'descr': '<f4'," + zeros(1) + "}\n"), "holds a zero byte"},
      {"a fortran_order of 1", file("{'descr': '<f4', 'fortran_order': 1, 'shape': (2, 3)}\n"),
       "neither True nor False"},
      {"a shape that is a number", shaped("6"), "has no '('"},
      {"a shape in brackets only", shaped("(6)"), "not a tuple"},
      {"a negative extent", shaped("(-2, 3)"), "negative extent"},
      {"a fractional extent", shaped("(2.5, 3)"), "shape that does not end"},
      {"a named extent", shaped("(two, 3)"), "something other than a number"},
      {"an extent past 64 bits", shaped("(99999999999999999999, 3)"), "overflows 64 bits"},
      {"extents whose product overflows", shaped("(4294967296, 4294967296)"), "which overflows 64 bits"},
      {"extents whose strides overflow, empty", shaped("(0, 4294967296, 4294967296)", 0), "which overflows 64 bits"},
      {"extents that overflow to a small size", shaped("(2305843009213693953, 2, 4)"), "which overflows 64 bits"},
      {"a rank above any", shaped(fmt::format("({})", fmt::join(std::vector<int>(33, 1), ", ")), 4),
       "more than 32 extents"},
      {"bfloat16, which NumPy does not have", typed("|V2"), "which NumPy writes for bfloat16"},
      {"half a long", shaped("(2LL, 3)"), "shape that does not end"},
      {"a whole number past 63 bits", npy_file(npy_header("<u8", "(1,)"), std::string(8, '\xFF')),
       "holds 18446744073709551615"},
      {"complex", typed("<c8"), "type '<c8'"},
      {"objects, which numpy would unpickle", typed("|O"), "type '|O'"},
      {"truth values", typed("|b1"), "type '|b1'"},
      {"long doubles", typed("<f16"), "type '<f16'"},
      {"an order alone", typed(">"), "type '>'"},
      {"an empty type", typed(""), "type ''"},
      {"records", file("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (6,)}\n"), "several fields"},
  };
}

std::vector<CorruptFile> corrupt_safetensors_files() {
  const std::string good = state_dict(gru_tensors("", 3, 5));
  const auto json = [](std::string_view text) { return safetensors_file(text, ""); };
  const auto raw = [](std::uint64_t length, std::string_view rest) { return little_endian(length, 8).append(rest); };
  return {
      {"empty", "", "it has 0 bytes"},
      {"cut off within the header's length", good.substr(0, 5), "it has 5 bytes"},
      {"a header length of 2^64 - 1", raw(~std::uint64_t{0}, "{}"), "claims a header of 18446744073709551615 bytes"},
      {"a header length above the format's limit", raw(100'000'001, "{}"), "claims a header of 100000001 bytes"},
      {"cut off within the header", good.substr(0, 60), "ends within its header"},
      {"a header length of 0", raw(0, "{}"), "does not begin with '{'"},
      {"another format", "PK\x03\x04" + zeros(4) + "something zipped", "safetensors.torch.save_file"},
      {"a list for a header", json("[1, 2]"), "does not begin with '{'"},
      {"JSON that ends early", json("{\"weight_ih_l0\":{"), "not valid JSON"},
      {"JSON with text behind it", json("{} {}"), "not valid JSON"},
      {"JSON with zero bytes behind it", json("{}" + zeros(6)), "zero byte at 2"},
      {"JSON with bytes hidden behind a zero byte", json("{}" + zeros(1) + R"({"a":1})"), "zero byte at 2"},
      {"null for a tensor", json(R"({"a":null})"), "has null in 'a'"},
      {"null in the metadata", json(R"({"__metadata__":{"a":null}})"), "has null in '__metadata__'"},
      {"JSON with NaN", one_tensor(R"("dtype":"F32","shape":[NaN],"data_offsets":[0,4])", 4), "not valid JSON"},
      {"JSON that is no UTF-8", json("{\"\xFF\":1}"), "not valid JSON"},
      {"nesting without end", json("{\"a\":" + std::string(100'000, '[')), "list where none belongs"},
      {"objects in objects", json(R"({"a":{"dtype":{}}})"), "object where none belongs"},
      {"a tensor named twice",
       safetensors_file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                        R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                        zeros(8)),
       "names 'a' twice"},
      {"a tensor that is a number", json(R"({"a":1})"), "number where none belongs in 'a'"},
      {"metadata that is no text", json(R"({"__metadata__":{"a":1}})"), "number where none belongs in '__metadata__'"},
      {"no dtype", one_tensor(R"("shape":[1],"data_offsets":[0,4])", 4), "has no dtype"},
      {"no shape", one_tensor(R"("dtype":"F32","data_offsets":[0,4])", 4), "has no shape"},
      {"no offsets", one_tensor(R"("dtype":"F32","shape":[1])", 4), "has no data_offsets"},
      {"one offset", one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0])", 4),
       "has 1 numbers in the data_offsets"},
      {"shape twice", one_tensor(R"("dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,4])", 4), "'shape' twice"},
      {"an unknown field", one_tensor(R"("dtype":"F32","shape":[1],"strides":[1],"data_offsets":[0,4])", 4),
       "has 'strides'"},
      {"a dtype that is a number", one_tensor(R"("dtype":7,"shape":[1],"data_offsets":[0,4])", 4),
       "number where none belongs"},
      {"a negative extent", one_tensor(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])", 4), "negative number -1"},
      {"a fractional extent", one_tensor(R"("dtype":"F32","shape":[1.5],"data_offsets":[0,4])", 4),
       "'1.5', which is no whole number"},
      {"an extent past 64 bits", one_tensor(R"("dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4])", 4),
       "which is no whole number below 2^64"},
      {"an extent past 63 bits", one_tensor(R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4])", 4),
       "an extent of (18446744073709551615) overflows"},
      {"extents whose product overflows",
       one_tensor(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4])", 4),
       "the size of (4294967296, 4294967296)"},
      {"null for a shape", one_tensor(R"("dtype":"F32","shape":null,"data_offsets":[0,4])", 4), "has null"},
      {"offsets in the wrong order", one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])", 4),
       "do not lie in order"},
      {"offsets behind the end", one_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])", 4),
       "was the file cut off?"},
      {"an offset of 2^64 - 1",
       one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,18446744073709551615])", 4),
       "do not lie in order"},
      {"cut off within the elements", good.substr(0, good.size() - 1), "was the file cut off?"},
      {"offsets that do not fit the shape", one_tensor(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])", 8),
       "its offsets span 8 bytes"},
      {"offsets that do not fit a foreign dtype", one_tensor(R"("dtype":"I8","shape":[3],"data_offsets":[0,4])", 4),
       "its offsets span 4 bytes, but I8 (3) takes 24 bits"},
      {"overlapping tensors",
       safetensors_file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                        R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                        zeros(12)),
       "'b' overlaps"},
      {"a hole",
       safetensors_file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                        R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                        zeros(12)),
       "a hole of 4 bytes before tensor 'b'"},
      {"bytes appended", good + "x", "1 bytes behind the last tensor"},
  };
}

std::vector<CorruptFile> unsuitable_state_dicts() {
  const std::vector<FileTensor> one = gru_tensors("", 3, 5);
  const std::vector<FileTensor> three = gru_tensors("", 3, 5, 3);
  const std::vector<FileTensor> both = gru_tensors("", 3, 5, 2, true);
  const std::vector<FileTensor> cell = {{"weight_ih", {15, 3}}, {"weight_hh", {15, 5}}};
  return {
      {"no tensor", safetensors_file("{}", ""), "there are no tensors"},
      {"no GRU", state_dict({{"head.weight", {10, 5}}, {"head.bias", {10}}}), "holds no GRU"},
      {"an LSTM", state_dict(other_layer("", 4)), "this looks like an LSTM"},
      {"a plain RNN", state_dict(other_layer("", 1)), "this looks like a plain RNN"},
      {"an LSTM and an RNN", state_dict(joined(other_layer("a.", 4), other_layer("b.", 1))),
       "'a.' (LSTM), 'b.' (plain RNN)"},
      {"two GRUs", state_dict(joined(gru_tensors("enc.", 3, 5), gru_tensors("dec.", 3, 5))), "holds 2 GRUs"},
      {"a layer and a cell of one name", state_dict(joined(one, cell)), "torch.nn.GRUCell (weight_ih) together"},
      {"no weight_ih", without(one, "weight_ih_l0"), "'weight_ih_l0' is missing"},
      {"no weight_hh", without(one, "weight_hh_l0"), "'weight_hh_l0' is missing"},
      {"one bias of two", without(one, "bias_hh_l0"), "'bias_hh_l0' is missing, but other biases"},
      {"a layer without bias", without(three, "bias_ih_l2"), "'bias_ih_l2' is missing"},
      {"the first layer missing", state_dict({{"weight_ih_l1", {15, 5}}, {"weight_hh_l1", {15, 5}}}),
       "'weight_ih_l0' is missing"},
      {"a gap between layers", state_dict(joined(one, {{"weight_ih_l2", {15, 5}}})), "layer 1 is missing"},
      {"a layer number without end", state_dict(joined(one, {{"weight_ih_l999999", {15, 5}}})),
       "there is a layer 999999"},
      {"a reverse tensor missing", without(both, "weight_hh_l1_reverse"),
       "'weight_hh_l1_reverse' is missing, but other tensors"},
      {"only reverse", state_dict({{"weight_ih_l0_reverse", {15, 3}}, {"weight_hh_l0_reverse", {15, 5}}}),
       "'weight_ih_l0' is missing"},
      {"rows that are no three gates", with(one, {"weight_hh_l0", {10, 5}}), "expected (3H, H), got (10, 5)"},
      {"a weight of rank 1", with(one, {"weight_hh_l0", {75}}), "expected (3H, H), got (75)"},
      {"an input weight of rank 3", with(one, {"weight_ih_l0", {15, 3, 1}}),
       "expected (3H, I) with I >= 1, got (15, 3, 1)"},
      {"no input feature", with(one, {"weight_ih_l0", {15, 0}}), "I >= 1, got (15, 0)"},
      {"no hidden unit", with(one, {"weight_hh_l0", {0, 0}}), "expected (3H, H), got (0, 0)"},
      {"rows that disagree", with(one, {"weight_ih_l0", {18, 3}}), "expected (15, 3)"},
      {"a bias that disagrees", with(one, {"bias_ih_l0", {5}}), "'bias_ih_l0': expected (15)"},
      {"a second layer of another input", with(three, {"weight_ih_l1", {15, 3}}), "'weight_ih_l1': expected (15, 5)"},
      {"a second layer of another size", with(three, {"weight_hh_l2", {12, 4}}), "'weight_hh_l2': expected (15, 5)"},
      {"whole numbers", with(one, {"weight_hh_l0", {15, 5}, "I64"}), "'weight_hh_l0' holds I64"},
      {"quantised weights", with(one, {"weight_ih_l0", {15, 3}, "I8"}), "'weight_ih_l0' holds I8"},
  };
}

}  // namespace gru::test
