// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace gru::test {

/// Sanitizers keep memory of their own, and end the program at an allocation that is too large, so that nothing can be learnt
/// about it there.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kAnySanitizer = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
inline constexpr bool kAnySanitizer = true;
#else
inline constexpr bool kAnySanitizer = false;
#endif
#else
inline constexpr bool kAnySanitizer = false;
#endif

}  // namespace gru::test
