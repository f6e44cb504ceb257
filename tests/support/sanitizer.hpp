#pragma once

namespace gru::test {

/// AddressSanitizer ends the program at an allocation that is too large, so nothing can be learnt about it there.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif

}  // namespace gru::test
