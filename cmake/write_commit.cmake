# SPDX-License-Identifier: Apache-2.0
# cmake -D SOURCE_DIR=... -D OUTPUT=... -P write_commit.cmake: writes OUTPUT only when the commit has changed.
set(commit "")
if(EXISTS "${SOURCE_DIR}/.git")
  execute_process(COMMAND git -C "${SOURCE_DIR}" describe --always --dirty --abbrev=12 --exclude=*
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(commit STREQUAL "")
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT "${OUTPUT}" @ONLY CONTENT [=[
#include "gru/version.hpp"

namespace gru {

std::string_view build_commit() noexcept { return "@commit@"; }

}  // namespace gru
]=])
