// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "gru/io.hpp"
#include "tests/cli/program.hpp"
#include "tests/support/corrupt_files.hpp"
#include "tests/support/temporary_folder.hpp"

// "-", pipes and descriptors as inputs and outputs; what the caller has closed; values that are empty.

namespace {

using gru::test::contains;
using gru::test::Finished;
using gru::test::run_program;
using gru::test::TemporaryFolder;

// I = 3, H = 5, T = 2, B = 4.
struct Files {
  Files() {
    folder.write("w.safetensors", gru::test::state_dict(gru::test::gru_tensors("", 3, 5)));
    folder.write("x.npy", gru::test::npy_file(gru::test::npy_header("<f4", "(2, 4, 3)"), std::string(96, '\0')));
    folder.write("h0.npy", gru::test::npy_file(gru::test::npy_header("<f4", "(1, 4, 5)"), std::string(80, '\0')));
    folder.write("lengths.npy", gru::test::npy_file(gru::test::npy_header("|u1", "(4,)"), "\x02\x01\x02\x01"));
  }
  std::string path(std::string_view name) const { return folder / name; }
  std::string quoted(std::string_view name) const { return "'" + path(name) + "'"; }
  Finished run(const std::vector<std::string>& arguments, const std::string& before = {}) const {
    std::vector<std::string> all = {"run"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return run_program(all, before + "OMP_NUM_THREADS=1 ");
  }
  TemporaryFolder folder;
};

TEST_CASE("gru run: any input may be standard input or a descriptor") {
  const Files files;
  const std::vector<std::string> names = {"w.safetensors", "x.npy", "h0.npy", "lengths.npy"};
  const std::vector<std::string> options = {"--weights", "--input", "--h0", "--lengths"};
  for (std::size_t streamed = 0; streamed < names.size(); ++streamed) {
    for (const std::string stream : {"-", "/dev/stdin", "/dev/fd/3"}) {
      std::vector<std::string> arguments;
      for (std::size_t i = 0; i < names.size(); ++i) {
        arguments.push_back(options[i]);
        arguments.push_back(i == streamed ? stream : files.path(names[i]));
      }
      const std::string file = files.quoted(names[streamed]);
      const std::string before = stream == "/dev/fd/3" ? "exec 3<" + file + "; " : "cat " + file + " | ";
      const Finished finished = files.run(arguments, before);
      CAPTURE(options[streamed]);
      CAPTURE(stream);
      CAPTURE(finished.err);
      CHECK(finished.status == 0);
    }
  }
  CHECK(files.run({"--weights", files.path("w.safetensors"), "--input", "-"}, "exec <" + files.quoted("x.npy") + "; ")
            .status == 0);
}

TEST_CASE("gru run: standard input that is read twice, closed or nothing exits 2") {
  const Files files;
  const std::string weights = files.path("w.safetensors");
  const auto refused = [&](const std::vector<std::string>& arguments, const std::string& before,
                           std::string_view words) {
    const Finished finished = files.run(arguments, before);
    CAPTURE(finished.err);
    CHECK(finished.status == 2);
    CHECK(contains(finished.err, words));
  };
  const std::string piped = "cat " + files.quoted("x.npy") + " | ";
  refused({"--weights", weights, "--input", "-", "--h0", "-"}, piped, "--input and --h0: both read standard input");
  refused({"--weights", weights, "--input", "/dev/stdin", "--h0", "/dev/fd/0"}, piped, "which can be read once");
  refused({"--weights", weights, "--input", "-", "--lengths", "/dev/stdin"}, piped, "which can be read once");
  refused({"--weights", weights, "--input", "-"}, "exec <&-; ", "standard input: ");
  refused({"--weights", weights, "--input", "-"}, "exec </dev/null; ", "standard input: ");
  refused({"--weights", weights, "--input", "-"}, ": | ", "standard input: not a .npy file: it has 0 bytes");
  refused({"--weights", weights, "--input", "/dev/fd/77"}, "", "/dev/fd/77: is not open");
  // Streams that do not end by themselves: nobody waits for the end of what can't be read anyway.
  refused({"--weights", weights, "--input", "-"}, "timeout 60 yes | ", "standard input: is a text");
  refused({"--weights", "-", "--input", files.path("x.npy")}, "timeout 60 yes | ",
          "standard input: is a text, not a safe");
}

TEST_CASE("gru run: an output to standard output is there alone, and the report is on stderr") {
  const Files files;
  const std::vector<std::string> inputs = {"--weights", files.path("w.safetensors"), "--input", files.path("x.npy")};
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> all = inputs;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  for (const char* stream : {"-", "/dev/stdout", "/dev/fd/1"}) {
    const Finished finished = files.run(with({"--output", stream, "--hn", files.path("hn.npy")}), ": | ");
    CAPTURE(stream);
    CAPTURE(finished.err);
    CHECK(finished.status == 0);
    CHECK(contains(finished.err, "ran once in"));
    CHECK(gru::load_npy(files.folder.write("y.npy", finished.out)).extents() == std::vector<std::int64_t>{2, 4, 5});
  }
  // Through a pipe and back.
  const Finished piped = files.run({"--weights", files.path("w.safetensors"), "--input", "-"},
                                   "'" GRU_PROGRAM "' run --weights " + files.quoted("w.safetensors") + " --input " +
                                       files.quoted("x.npy") + " --output - 2>/dev/null | ");
  CHECK(piped.status == 2);
  CHECK(contains(piped.err, "standard input: --input: expected 3 features"));

  CHECK(files.run(with({"--output", "-", "--hn", "-"})).status == 2);
  CHECK(files.run(with({"--output", "/dev/null", "--hn", "/dev/null"})).status == 0);
  CHECK(files.run(with({"--output", "-"}), "exec >&-; ").status == 2);
  if (std::filesystem::exists("/dev/full")) CHECK(files.run(with({"--output", "-"}), "exec >/dev/full; ").status == 1);
}

TEST_CASE("gru run: safetensors files as input and output") {
  const Files files;
  const std::string weights = files.path("w.safetensors");
  const std::string output = files.path("y.safetensors");
  const std::string state = files.path("hn.safetensors");
  const Finished first =
      files.run({"--weights", weights, "--input", files.path("x.npy"), "--output", output, "--hn", state});
  CAPTURE(first.err);
  REQUIRE(first.status == 0);
  CHECK(gru::load_safetensors(output).at(0).first == "output");
  CHECK(gru::load_safetensors(state).at(0).first == "h_n");

  // One tensor, or the one of the option's name.
  const std::string one = gru::test::state_dict({{"any", {2, 4, 3}, "BF16"}});
  const std::string several =
      gru::test::state_dict({{"h0", {1, 4, 5}, "F16"}, {"x", {2, 4, 3}}, {"lengths", {4}, "I8"}});
  const std::string many = files.folder.write("many.safetensors", several);
  const Finished bfloat16 =
      files.run({"--weights", weights, "--input", files.folder.write("x.safetensors", one), "--h0", many});
  CAPTURE(bfloat16.err);
  CHECK(bfloat16.status == 0);
  CHECK(contains(bfloat16.out, "converted --input bfloat16 -> float32; converted --h0 float16 -> float32"));
  CHECK(files.run({"--weights", weights, "--input", many}).status == 0);

  // Plans of 16 bits take them as they are, and write their own type: safetensors has both, .npy float16.
  const Finished half = files.run({"--weights", weights, "--input", files.path("x.safetensors"), "--h0", many,
                                   "--dtype", "bfloat16", "--output", output});
  CAPTURE(half.err);
  CHECK(half.status == 0);
  CHECK_FALSE(contains(half.out, "--input bfloat16"));
  CHECK(contains(half.out, "converted --h0 float16 -> bfloat16"));
  CHECK(gru::load_safetensors(output).at(0).second.dtype() == gru::DType::bfloat16);
  const std::string npy = files.path("y16.npy");
  CHECK(
      files.run({"--weights", weights, "--input", files.path("x.npy"), "--dtype", "float16", "--output", npy}).status ==
      0);
  CHECK(gru::load_npy(npy).dtype() == gru::DType::float16);
  CHECK(contains(files.run({"--weights", weights, "--input", many, "--lengths", many}).err, "'lengths' holds I8"));
  CHECK(contains(files.run({"--weights", weights, "--input", weights}).err, "none is called 'x' or 'input'"));
}

TEST_CASE("gru: values that are empty exit 2, for every option") {
  const Files files;
  const std::string weights = files.path("w.safetensors");
  const std::string input = files.path("x.npy");
  const std::vector<std::string> model = {"--weights", weights, "--input", input};
  for (const std::string option : {"--weights", "--input", "--h0", "--lengths", "--output", "--hn", "--backend",
                                   "--math", "--dtype", "--device-profile", "--device", "--reserve-sms"}) {
    for (const bool joined : {false, true}) {
      std::vector<std::string> arguments = model;
      if (joined) {
        arguments.push_back(option + "=");
      } else {
        arguments.insert(arguments.end(), {option, ""});
      }
      const Finished finished = files.run(arguments);
      CAPTURE(option);
      CAPTURE(finished.err);
      CHECK(finished.status == 2);
      CHECK(contains(finished.err, option + ": its value is empty"));
    }
  }
  CHECK(run_program({"bench", "--json", ""}).status == 2);
  CHECK(run_program({"bench", ""}).status == 2);
  CHECK(run_program({""}).status == 2);
  // An empty prefix means something: names without one.
  CHECK(files.run({"--weights", weights, "--input", input, "--prefix", ""}).status == 0);
  CHECK(files.folder.count() == 4);
}

TEST_CASE("gru: stderr that cannot be written changes no status") {
  const Files files;
  const std::vector<std::string> good = {"--weights", files.path("w.safetensors"), "--input", files.path("x.npy"),
                                         "--output",  files.path("y.npy")};
  for (const std::string before : {"exec 2>/dev/full; ", "exec 2>&-; ", "exec 2>&- >&-; ", "exec 2>&- <&-; "}) {
    CAPTURE(before);
    CHECK(files.run({"--weights", files.path("none"), "--input", "none"}, before).status == 2);
    CHECK(files.run({"--nonsense"}, before).status == 2);
    CHECK(run_program({"fly"}, before).status == 2);
    CHECK(run_program({}, before).status == 2);
  }
  for (const std::string before : {"exec 2>/dev/full; ", "exec 2>&-; ", "exec 2>&- <&-; "}) {
    CAPTURE(before);
    CHECK(files.run(good, before).status == 0);
    // No message went into the file that was opened next.
    CHECK(gru::load_npy(files.path("y.npy")).size() == 40);
  }
  CHECK(run_program({"info"}, "exec >&-; ").status == 1);
}

TEST_CASE("gru run: a sharded checkpoint by its index, and not by one of its files") {
  const Files files;
  const auto all = gru::test::gru_tensors("rnn.", 3, 5, 2);
  const std::vector<gru::test::FileTensor> first(all.begin(), all.begin() + 4);
  const std::vector<gru::test::FileTensor> second(all.begin() + 4, all.end());
  const std::string one = files.folder.write("model-00001-of-00002.safetensors", gru::test::state_dict(first));
  files.folder.write("model-00002-of-00002.safetensors", gru::test::state_dict(second));
  std::string map;
  for (const auto& tensor : all) {
    const bool in_first = std::find_if(first.begin(), first.end(),
                                       [&](const auto& other) { return other.name == tensor.name; }) != first.end();
    map += (map.empty() ? "\"" : ",\"") + tensor.name + "\":\"model-0000" + (in_first ? "1" : "2") +
           "-of-00002.safetensors\"";
  }
  const std::string index =
      files.folder.write("model.safetensors.index.json", "{\"metadata\":{},\"weight_map\":{" + map + "}}");
  const Finished whole = files.run({"--weights", index, "--input", files.path("x.npy")});
  CAPTURE(whole.err);
  CHECK(whole.status == 0);
  CHECK(contains(whole.out, "L=2"));
  const Finished part = files.run({"--weights", one, "--input", files.path("x.npy")});
  CHECK(part.status == 2);
  CHECK(contains(part.err, "model.safetensors.index.json"));
}

TEST_CASE("gru run: a file that is a mount of its own, as containers bind them, is written in place") {
  const Files files;
  const std::string inside = files.folder.write("y.npy", "");
  const std::string outside = files.folder.write("outside.npy", std::string(5000, 'x'));  // more than the output takes
  const std::string mounted = "unshare -m sh -c 'mount --bind \"$OUTSIDE\" \"$INSIDE\" && \"$@\"' sh ";
  const std::string before = "export OUTSIDE='" + outside + "' INSIDE='" + inside + "'; " + mounted;
  if (std::system((before + "true 2>/dev/null").c_str()) != 0) {
    MESSAGE("left out: nothing can be mounted here");
    return;
  }
  const Finished finished = run_program({"run", "--weights", files.path("w.safetensors"), "--input",
                                         files.path("x.npy"), "--output", inside, "--hn", files.path("hn.npy")},
                                        "export OMP_NUM_THREADS=1; " + before);
  CAPTURE(finished.err);
  CHECK(finished.status == 0);
  CHECK(gru::load_npy(outside).extents() == std::vector<std::int64_t>{2, 4, 5});
  CHECK(gru::load_npy(files.path("hn.npy")).size() == 20);
  CHECK(files.folder.count() == 7);  // and nothing else
}

}  // namespace
