// SPDX-License-Identifier: Apache-2.0
#pragma once

// The loops behind fma_peak_gflops, once per instruction set. No inline function may stand here: see
// gru_add_simd_source.
namespace gru::bench {

struct FmaLoop {
  const char* name;
  /// Runs `rounds` rounds of multiply-adds on registers and returns a value that depends on all of them.
  float (*float32)(long rounds);
  double (*float64)(long rounds);
  long float32_flop;  ///< of one round
  long float64_flop;
};

namespace generic {
extern const FmaLoop kFmaLoop;
}
namespace avx2 {
extern const FmaLoop kFmaLoop;
}
namespace avx512 {
extern const FmaLoop kFmaLoop;
}

}  // namespace gru::bench
