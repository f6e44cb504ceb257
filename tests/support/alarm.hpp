// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

namespace gru::test {

/// Ends the process by SIGALRM if it lives for so many seconds: a test that hangs fails. Slow machines share their cores, so that
/// it leaves time enough.
class Alarm {
 public:
  explicit Alarm(unsigned seconds = 20) { ::alarm(seconds); }
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;
  ~Alarm() { ::alarm(0); }
};

}  // namespace gru::test
