#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# debian.sh PREFIX DEBS PACKAGE...: unpacks Debian packages into PREFIX, so that PREFIX/usr serves find_package().
# The packages come from the machine's own release, with the shared libraries of theirs that they ask for. libkokkos-dev
# comes alone and from unstable, as no release has it yet; where the machine's C library is older than Kokkos asks for, a
# newer runtime is laid beside it, in PREFIX/runtime, and what links this Kokkos is started with that. Needs no root,
# installs nothing, touches nothing of the machine's apt but reads its sources; apt checks every package against Debian's
# own keys. DEBS is empty or a folder with .deb files to take when the archive fails. The last line printed says why the
# script failed.
set -eu
prefix=$1 debs=$2
shift 2
packages=$*
runtime='libc6 libstdc++6 libgcc-s1 libgomp1'
kokkos_suite=unstable
runtime_suites='trixie unstable'  # the first one new enough: the nearest to the machine's own release
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

fail() { echo "$*" >&2; exit 1; }
command -v dpkg-deb >/dev/null || fail "not a Debian machine: no dpkg-deb"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/got" "$work/root" "$prefix"
chmod -R a+rwX "$work"  # root's apt downloads as the user _apt
prefix=$(cd "$prefix" && pwd)

# The archive that this machine's own sources name, and the release that it runs.
find_archive() {
  [ -r "$keyring" ] && command -v apt-get >/dev/null || fail "not a Debian machine with apt and Debian's keys"
  release=$(. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_CODENAME:-unstable}") || fail "not a Debian machine"
  archive=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
    awk -v release="$release" '$2 == release || $2 ~ /^(stable|oldstable|testing|sid|unstable)$/ { print $1; exit }')
  [ -n "$archive" ] || fail "apt's sources name no Debian archive"
}
# use_suites SUITE...: a private apt that knows these suites of that archive and nothing else.
use_suites() {
  for suite; do echo "deb [signed-by=$keyring] $archive $suite main"; done >"$work/sources"
  private_apt update 2>"$work/error" && return
  grep -q 'is expired' "$work/error" || fail "$archive does not answer ($(last_error))"
  echo "note: the index of $* at $archive is signed but old; it is used all the same" >&2
  private_apt -o Acquire::Check-Valid-Until=false update 2>"$work/error" ||
    fail "$archive does not answer ($(last_error))"
}
private_apt() {
  apt-get -qq -o Dir::Etc::SourceList="$work/sources" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o Acquire::Languages=none \
    -o Acquire::http::Timeout=15 -o Acquire::Retries=2 -o Debug::NoLocking=1 -o APT::Update::Error-Mode=any "$@"
}
last_error() { grep . "$work/error" | tail -n 1; }
# download SUITE PACKAGE...: into $work/got
download() {
  from=$1; shift
  for package; do set -- "$@" "$package/$from"; shift; done
  (cd "$work/got" && private_apt download "$@" 2>"$work/error") ||
    fail "$archive does not serve $* ($(last_error))"
}
newest() { ls "$work"/got/$1_*.deb 2>/dev/null | tail -n 1; }
unpack() { for package; do dpkg-deb -x "$(newest "$package")" "$work/root"; done; }
# shared_by PATTERN PACKAGE: the packages matching PATTERN that PACKAGE depends on.
shared_by() { dpkg-deb -f "$(newest "$2")" Depends | tr ',|' '\n\n' | sed -n "s/^ *\($1\)\( .*\)*$/\1/p"; }
# too_old PACKAGE VERSION: whether Kokkos' library asks for a newer PACKAGE than VERSION.
too_old() {
  least=$(dpkg-deb -f "$(newest 'libkokkos[0-9]*')" Depends | tr ',' '\n' | sed -n "s/^ *$1 (>= \(.*\))$/\1/p" | tail -n 1)
  [ -n "$least" ] && dpkg --compare-versions "${2:-0}" lt "$least"
}
machine_is_too_old() {
  for package in $runtime; do
    version=$(dpkg-query -W -f '${Version}\n' "$package" 2>/dev/null | head -n 1)
    too_old "$package" "$version" && return 0
  done
  return 1
}
runtime_is_too_old() {
  for package in $runtime; do
    too_old "$package" "$(dpkg-deb -f "$(newest "$package")" Version)" && return 0
  done
  return 1
}

shared_libraries() {
  for package in $packages; do
    case $package in
      libfmt-dev) shared_by 'libfmt[0-9.]*' $package ;;
      libbenchmark-dev) shared_by 'libbenchmark[0-9][a-z0-9.]*' $package ;;
      libkokkos-dev) shared_by 'libkokkos[0-9][0-9.]*' $package ;;
    esac
  done
}
fetch_libraries() {
  find_archive
  use_suites "$release"
  download "$release" $packages
  shared=$(shared_libraries)
  [ -z "$shared" ] || download "$release" $shared
}
fetch_kokkos() {
  find_archive
  use_suites $kokkos_suite
  download $kokkos_suite libkokkos-dev
  download $kokkos_suite $(shared_libraries)
  if machine_is_too_old; then
    for suite in $runtime_suites; do
      use_suites "$suite"
      rm -f $(for package in $runtime; do echo "$work/got/${package}_"*; done)
      download "$suite" $runtime
      runtime_is_too_old || break
    done
  fi
}
take_debs() {
  [ -n "$debs" ] && [ -d "$debs" ] || return 1
  rm -f "$work"/got/*
  cp "$debs"/*.deb "$work/got/" && echo "note: the archive failed; taking the packages in $debs" >&2
}

what=libraries
[ "$packages" != libkokkos-dev ] || what=kokkos
if ! (fetch_$what); then
  take_debs || exit 1  # what failed has said why
fi
shared=$(shared_libraries)
unpack $packages $shared

# Some packages' CMake files name /usr outright, which is no longer where they lie.
find "$work/root/usr" -name '*.cmake' -exec sed -i \
  -e 's#set(_IMPORT_PREFIX "/usr")#get_filename_component(_IMPORT_PREFIX "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)#' \
  -e 's#"/usr/include#"${_IMPORT_PREFIX}/include#g' {} +
if [ $what = kokkos ]; then
  config=$(echo "$work"/root/usr/lib/*/cmake/Kokkos)
  # Archives that the package exports but does not hold (of header-only libraries): empty ones do.
  grep -ho 'lib[a-z]*\.a' "$config"/KokkosTargets-*.cmake | sort -u | while read -r name; do
    [ -e "$config/../../$name" ] || printf '!<arch>\n' >"$config/../../$name"
  done
  # Kokkos' own CMake files include every KokkosTargets-*.cmake beside them. The old kind of rpath, because that one also
  # covers what the libraries load in turn.
  cat >"$config/KokkosTargets-private.cmake" <<'CMAKE'
# Executables that link this Kokkos find their libraries in this folder, also once they are installed.
get_filename_component(_gru_libraries "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
set_property(TARGET Kokkos::kokkoscore APPEND PROPERTY INTERFACE_LINK_OPTIONS
  LINKER:--disable-new-dtags "LINKER:-rpath=${_gru_libraries}")
unset(_gru_libraries)
CMAKE
  if machine_is_too_old; then
    mkdir -p "$work/runtime" "$work/root/runtime"
    for package in $runtime; do dpkg-deb -x "$(newest "$package")" "$work/runtime"; done
    cp -a "$work"/runtime/usr/lib/*/lib*.so* "$work"/runtime/usr/lib/*/ld-*.so* "$work/root/runtime/"
    loader=$(cd "$work/root/runtime" && ls ld-*.so*)
    cat >"$config/KokkosTargets-runtime.cmake" <<CMAKE
# Executables that link this Kokkos start with the C library that it needs, newer than the machine's own.
get_filename_component(_gru_runtime "\${_IMPORT_PREFIX}/../runtime" ABSOLUTE)
set_property(TARGET Kokkos::kokkoscore APPEND PROPERTY INTERFACE_LINK_OPTIONS LINKER:--allow-shlib-undefined
  "LINKER:--dynamic-linker=\${_gru_runtime}/$loader" "LINKER:-rpath=\${_gru_runtime}")
unset(_gru_runtime)
CMAKE
  fi
fi
cp -a "$work/root/." "$prefix/"
