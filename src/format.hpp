// SPDX-License-Identifier: Apache-2.0
#pragma once

// fmt's headers, whose largest function is compiled once for the whole library (format.cpp). Each file that formats would
// compile it anew otherwise, which takes a compiler longer than the rest of most of our files.

#include <fmt/format.h>

// The signature is the same from fmt 9 to 10. A later fmt is used as it comes: slower to compile, the same results.
#if defined(FMT_HEADER_ONLY) && FMT_VERSION >= 90000 && FMT_VERSION < 110000
#define GRU_FORMATS_ONCE 1
extern template void fmt::detail::vformat_to<char>(fmt::detail::buffer<char>&, fmt::string_view, fmt::format_args,
                                                   fmt::detail::locale_ref);
#else
#define GRU_FORMATS_ONCE 0
#endif
