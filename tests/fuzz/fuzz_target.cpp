// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/fuzz/readers.hpp"

// What libFuzzer calls; GRU_FUZZ_READER is the number of the reader in kReaders.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  gru::fuzz::kReaders[GRU_FUZZ_READER].read(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
