# SPDX-License-Identifier: Apache-2.0
# Dependency provider. CMakeLists.txt says plain find_package(); this file, which the presets name in
# CMAKE_PROJECT_TOP_LEVEL_INCLUDES, decides where a package may come from:
#   installed   whatever find_package() finds by itself;
#   upstream    the release archive named in dependencies/upstream.cmake, checked against its SHA-256, then built and
#               installed privately: Kokkos with Serial, OpenMP and this machine's instruction set;
#   debian      Debian's packages, unpacked privately by dependencies/debian.sh: no root, nothing installed.
# GRU_DEPS_FROM names and orders these steps. Private files go to GRU_DEPS_DIR, which all build folders share; delete it
# to start over. Without this file only installed packages count.
include_guard(GLOBAL)
set(GRU_DEPS_FROM "installed;upstream;debian" CACHE STRING "Where dependencies may come from, in this order")
set(GRU_DEPS_DIR "${CMAKE_SOURCE_DIR}/.deps" CACHE PATH "Where dependencies that are not installed are kept")
set(GRU_DEPS_DEBS "$ENV{GRU_DEPS_DEBS}" CACHE PATH "Folder of .deb files to use when Debian's archive fails to serve them")
set(GRU_DEPS_UPSTREAM "${CMAKE_CURRENT_LIST_DIR}/dependencies/upstream.cmake" CACHE FILEPATH "Table of release archives")
set(GRU_DEPS_KOKKOS_OPTIONS "" CACHE STRING
    "Options that Kokkos must be built with, such as -DKokkos_ENABLE_CUDA=ON: then only the upstream step or a Kokkos_ROOT serves it")
mark_as_advanced(GRU_DEPS_UPSTREAM)
include("${CMAKE_CURRENT_LIST_DIR}/dependencies/steps.cmake")

# A macro, because what a package's configuration sets must arrive in the scope that called find_package().
macro(gru_provide_dependency method name)
  if("${name}" IN_LIST gru_deps_names)
    set(_gru_arguments ${ARGN})
    set(_gru_required OFF)
    if("REQUIRED" IN_LIST _gru_arguments)
      set(_gru_required ON)
      list(REMOVE_ITEM _gru_arguments REQUIRED)
    endif()
    gru_deps_forget_private(${name})
    set(${name}_FOUND FALSE)
    set(_gru_failures "")
    set(_gru_steps ${GRU_DEPS_FROM})
    # A Kokkos that must have certain options comes from its archive, or from Kokkos_ROOT and from nowhere else.
    if("${name}" STREQUAL "Kokkos" AND GRU_DEPS_KOKKOS_OPTIONS)
      set(_gru_steps upstream)
      if(Kokkos_ROOT)
        set(_gru_steps "")
        unset(Kokkos_DIR CACHE)
        find_package(Kokkos ${_gru_arguments} QUIET BYPASS_PROVIDER PATHS ${Kokkos_ROOT} NO_DEFAULT_PATH)
        set(_gru_found "${Kokkos_FOUND}")
        set(Kokkos_FOUND TRUE)  # as below: one error is enough
        gru_deps_check_named_kokkos("${_gru_found}" "${Kokkos_DEVICES}")
        gru_deps_report(Kokkos Kokkos_ROOT "${Kokkos_VERSION}" "${Kokkos_DIR}")
      endif()
    endif()
    # What lies here already serves first, so that only the first configuration asks the network.
    foreach(_gru_attempt IN ITEMS kept fetched)
      foreach(_gru_step IN LISTS _gru_steps)
        if(${name}_FOUND)
          break()
        endif()
        gru_deps_prefix(${_gru_step} ${name} ${_gru_attempt} _gru_prefix _gru_reason)
        if(_gru_prefix)
          find_package(${name} ${_gru_arguments} QUIET BYPASS_PROVIDER PATHS "${_gru_prefix}" NO_DEFAULT_PATH)
        elseif(_gru_step STREQUAL "installed" AND _gru_attempt STREQUAL "kept")
          find_package(${name} ${_gru_arguments} QUIET BYPASS_PROVIDER)
        endif()
        if(${name}_FOUND)
          gru_deps_report(${name} ${_gru_step} "${${name}_VERSION}" "${${name}_DIR}")
        elseif(_gru_attempt STREQUAL "fetched")
          list(APPEND _gru_failures "${_gru_step}: ${_gru_reason}")
        endif()
      endforeach()
    endforeach()
    if(_gru_required AND NOT ${name}_FOUND)
      set(${name}_FOUND TRUE)  # or find_package() would go on and add its own, longer error
      gru_deps_fail(${name} "${_gru_failures}")
    endif()
  endif()
  # A call for anything else falls through to find_package() itself.
endmacro()
cmake_language(SET_DEPENDENCY_PROVIDER gru_provide_dependency SUPPORTED_METHODS FIND_PACKAGE)
