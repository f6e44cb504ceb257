// SPDX-License-Identifier: Apache-2.0
// To be preloaded: a host of 768 processors, as libgomp sees it when it decides how many threads to start.
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace {

constexpr std::size_t kProcessors = 768;

std::size_t fill(std::size_t bytes, cpu_set_t* set) {
  std::memset(set, 0, bytes);
  const std::size_t held = std::min(bytes, kProcessors / 8);
  std::memset(set, 0xff, held);
  return held;
}

}  // namespace

extern "C" int pthread_getaffinity_np(pthread_t, std::size_t bytes, cpu_set_t* set) noexcept {
  fill(bytes, set);
  return 0;
}
extern "C" int sched_getaffinity(pid_t, std::size_t bytes, cpu_set_t* set) noexcept {
  return static_cast<int>(fill(bytes, set));
}
extern "C" long sysconf(int name) noexcept {
  if (name == _SC_NPROCESSORS_ONLN || name == _SC_NPROCESSORS_CONF) return kProcessors;
  static const auto next = reinterpret_cast<long (*)(int)>(dlsym(RTLD_NEXT, "sysconf"));
  return next(name);
}
