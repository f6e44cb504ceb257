// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace gru::cli {

/// From here on a signal that asks the program to end (SIGINT, SIGTERM, SIGHUP, ...) first removes the files that are being
/// written, and then ends it as it would have: the status is the signal's own. Signals that the caller ignores stay so.
/// SIGPIPE and SIGXFSZ wait: the write that causes one fails, the error is handled, and end_by_signal() follows.
/// To be called before any thread is made, as threads inherit which signals they leave alone.
void watch_interrupts();

/// Whether a reader of ours has gone away: nothing needs to be said about it.
bool reader_is_gone();

/// At the end of the program: if a write has caused SIGPIPE or SIGXFSZ, ends by it, else returns.
void end_by_signal();

}  // namespace gru::cli
