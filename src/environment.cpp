// SPDX-License-Identifier: Apache-2.0
#include "environment.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>

#include "backends/kokkos/simd/select.hpp"
#include "format.hpp"
#include "gru/error.hpp"
#include "host_threads.hpp"
#include "io/file.hpp"

namespace gru {
namespace {

bool is_number(std::string_view text, int least, int most = std::numeric_limits<int>::max()) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() && value >= least && value <= most;
}

bool is_thread_count(std::string_view text) { return is_number(text, 1, kMostKokkosThreads); }

bool is_device(std::string_view text) { return is_number(text, 0); }

bool is_device_list(std::string_view text) {
  const std::size_t comma = text.find(',');
  if (comma == std::string_view::npos) return is_device(text);
  return is_device(text.substr(0, comma)) && is_device_list(text.substr(comma + 1));
}

bool is_mapping(std::string_view text) { return text == "random" || text == "mpi_rank"; }

bool is_switch(std::string_view text) {
  constexpr std::array<std::string_view, 6> kWords = {"yes", "true", "1", "no", "false", "0"};
  const auto same_letter = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b; };
  return std::ranges::any_of(kWords,
                             [&](std::string_view word) { return std::ranges::equal(text, word, same_letter); });
}

struct Variable {
  const char* name;
  bool (*accepts)(std::string_view text);
  std::string_view expected;
};

// What Kokkos::initialize reads and, where it does not understand it, calls abort() for or worse.
constexpr std::array kVariables = {
    Variable{"KOKKOS_NUM_THREADS", is_thread_count, "a number of threads from 1 to 512"},
    Variable{"KOKKOS_DEVICE_ID", is_device, "a device's number from 0"},
    Variable{"KOKKOS_VISIBLE_DEVICES", is_device_list, "devices' numbers from 0 with commas between"},
    Variable{"KOKKOS_MAP_DEVICE_ID_BY", is_mapping, "random or mpi_rank"},
    Variable{"KOKKOS_DISABLE_WARNINGS", is_switch, "yes or no"},
    Variable{"KOKKOS_PRINT_CONFIGURATION", is_switch, "yes or no"},
    Variable{"KOKKOS_TUNE_INTERNALS", is_switch, "yes or no"},
};

}  // namespace

void check_environment(int threads) {
  for (const Variable& variable : kVariables) {
    const char* text = std::getenv(variable.name);
    if (text != nullptr && !variable.accepts(text)) {
      throw Error(fmt::format("environment variable {}: expected {}, got '{}'; correct or unset it", variable.name,
                              variable.expected, printable(text)));
    }
  }
  // Else as many as OpenMP starts, for whatever reason.
  if (threads == 0 && std::getenv("KOKKOS_NUM_THREADS") == nullptr) require_threads_that_kokkos_holds();
  simd::select_kernels<float>();  // refuses a GRU_SIMD that this machine does not have
}

}  // namespace gru
