// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace gru::test {

/// AddressSanitizer ends the program at an allocation that is too large, so nothing can be learnt about it there.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif

/// Sanitizers keep memory of their own.
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
