#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run_clang_tidy.sh BUILD_DIR [FILE...]: clang-tidy 14 on the sources that BUILD_DIR compiles, or on these of them.
set -eu
build=$1
shift
# gcc compiles and warns: clang keeps its own warnings to itself, and finds gcc's omp.h after everything else.
omp=$(dirname "$(g++ -print-file-name=include/omp.h)")
# clang takes no precompiled headers of gcc's: the commands without them.
commands=$(mktemp -d)
trap 'rm -rf "$commands"' EXIT
sed 's# -Winvalid-pch##; s# -include [^ ]*cmake_pch\.hxx##' "$build/compile_commands.json" >"$commands/compile_commands.json"
[ $# -gt 0 ] || set -- $(git ls-files 'src/*.cpp' 'backends/*.cpp' 'bench/*.cpp' 'examples/*.cpp' 'tests/*.cpp' 'python/*.cpp')
for file; do
  # Others than compiled files (a consumer's program) have no command to be checked with.
  grep -q "\"file\": \".*/$file\"" "$build/compile_commands.json" && echo "$file"
done | xargs -P "$(nproc)" -n 1 sh -c '
  log=$(clang-tidy-14 -p "$0" --quiet --extra-arg=-Wno-everything "--extra-arg=-idirafter$1" "$2" 2>&1) ||
    { echo "$log" | grep -v "warnings* generated"; exit 1; }' "$commands" "$omp"
