// SPDX-License-Identifier: Apache-2.0
#include "cli/interrupts.hpp"

#include <csignal>
#include <initializer_list>
#include <thread>

#include "io/unfinished.hpp"

namespace gru::cli {
namespace {

bool ignored(int signal) {
  struct sigaction action {};
  return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

sigset_t set_of(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals) {
    if (!ignored(signal)) ::sigaddset(&set, signal);
  }
  return set;
}

bool is_pending(int signal) {
  sigset_t pending;
  return ::sigpending(&pending) == 0 && ::sigismember(&pending, signal) == 1;
}

void end_by(int signal) {
  struct sigaction by_default {};
  by_default.sa_handler = SIG_DFL;
  ::sigaction(signal, &by_default, nullptr);
  sigset_t one;
  ::sigemptyset(&one);
  ::sigaddset(&one, signal);
  ::pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
  ::raise(signal);
}

}  // namespace

// A handler may do next to nothing, and may run in any thread. A thread that waits for signals may do all.
void watch_interrupts() {
  const sigset_t waited_for = set_of({SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU, SIGALRM});
  const sigset_t held = set_of({SIGPIPE, SIGXFSZ});
  ::pthread_sigmask(SIG_BLOCK, &held, nullptr);
  ::pthread_sigmask(SIG_BLOCK, &waited_for, nullptr);
  std::thread([waited_for] {
    int signal = 0;
    if (::sigwait(&waited_for, &signal) != 0) return;
    abandon_unfinished_files();
    end_by(signal);
  }).detach();
}

bool reader_is_gone() { return is_pending(SIGPIPE); }

void end_by_signal() {
  for (const int signal : {SIGPIPE, SIGXFSZ}) {
    if (is_pending(signal)) end_by(signal);
  }
}

}  // namespace gru::cli
