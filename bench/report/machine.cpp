// SPDX-License-Identifier: Apache-2.0
#include "bench/report/machine.hpp"

#include <benchmark/benchmark.h>
#include <fmt/chrono.h>

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <set>

#include "bench/measure/peak.hpp"
#include "gru/detail/kokkos_space.hpp"
#include "gru/device.hpp"
#include "gru/version.hpp"
#include "src/format.hpp"

namespace gru::bench {
namespace {

using nlohmann::ordered_json;

/// Physical cores: hardware threads that are siblings count once. All hardware threads where the system does not tell.
int physical_cores(int hardware_threads) {
  std::set<std::string> cores;
  for (int cpu = 0; cpu < hardware_threads; ++cpu) {
    std::ifstream file(fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
    std::string siblings;
    if (std::getline(file, siblings)) cores.insert(siblings);
  }
  return cores.empty() ? hardware_threads : static_cast<int>(cores.size());
}

std::string now() { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))); }

ordered_json caches(const ::benchmark::CPUInfo& cpu) {
  ordered_json list = ordered_json::array();
  for (const auto& cache : cpu.caches) {
    list.push_back(
        {{"level", cache.level}, {"type", cache.type}, {"bytes", cache.size}, {"shared_by", cache.num_sharing}});
  }
  return list;
}

/// Binds and counts Kokkos' threads; what is not set is null.
ordered_json openmp_environment() {
  ordered_json set;
  for (const char* name : {"OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES"}) {
    const char* value = std::getenv(name);
    set[name] = value != nullptr ? ordered_json(value) : ordered_json();
  }
  return set;
}

ordered_json devices() {
  ordered_json list = ordered_json::array();
  const std::vector<Device> here = Device::list();
  for (const SpaceReport& space : spaces_of_build()) {
    ordered_json entry{{"space", space.name}, {"available", space.available}};
    const auto has_space = [&](const Device& device) {
      const std::vector<SpaceReport> spaces = device.spaces();
      return std::ranges::find(spaces, space.name, &SpaceReport::name) != spaces.end();
    };
    if (const auto device = std::ranges::find_if(here, has_space); device != here.end()) {
      entry["name"] = device->description();
      entry["concurrency"] = device->info().concurrency;
    }
    list.push_back(std::move(entry));
  }
  return list;
}

}  // namespace

ordered_json machine_stamp() {
  const ::benchmark::CPUInfo& cpu = ::benchmark::CPUInfo::Get();
  const int version = KOKKOS_VERSION;  // MMmmpp in decimal
  return {{"cpu", host_processor_name()},
          {"cores", physical_cores(cpu.num_cpus)},
          {"hardware_threads", cpu.num_cpus},
          {"caches", caches(cpu)},
          {"isa", instruction_set()},
          {"threads", Kokkos::DefaultHostExecutionSpace().concurrency()},
          {"environment", openmp_environment()},
          {"kokkos",
           {{"version", fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100)},
            {"host_space", Kokkos::DefaultHostExecutionSpace::name()},
            {"default_space", Kokkos::DefaultExecutionSpace::name()}}},
          {"devices", devices()},
          {"version", kVersion},
          {"commit", build_commit()},
          {"date", now()}};
}

std::string describe(const ordered_json& stamp) {
  const auto text = [&](const char* key) { return stamp.at(key).get<std::string>(); };
  std::string lines = fmt::format(
      "{}, {} cores, {}; {} threads of {} (Kokkos {})\ngru {} ({}), {}\n", text("cpu"), stamp.at("cores").get<int>(),
      text("isa"), stamp.at("threads").get<int>(), stamp.at("kokkos").at("host_space").get<std::string>(),
      stamp.at("kokkos").at("version").get<std::string>(), text("version"), text("commit"), text("date"));
  for (const auto& device : stamp.at("devices")) {
    if (device.value("name", text("cpu")) == text("cpu")) continue;
    lines += fmt::format("{}: {}\n", device.at("space").get<std::string>(), device.at("name").get<std::string>());
  }
  return lines;
}

}  // namespace gru::bench
