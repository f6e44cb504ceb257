# SPDX-License-Identifier: Apache-2.0
# What every target of this project has in common, and how a source is compiled once per instruction set.
include_guard(GLOBAL)

# Warnings, include folder of the repository's root ("backends/list.hpp"), C++20 without extensions.
function(gru_set_up_target target)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}")
  if(Kokkos_ENABLE_CUDA)
    # nvcc compiles everything then: its generated code trips over these warnings, and fmt 9 does not believe that it
    # knows constexpr.
    target_compile_definitions(${target} PRIVATE FMT_USE_CONSTEXPR=1)
    return()
  endif()
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual>
    $<$<COMPILE_LANG_AND_ID:CXX,Clang,AppleClang>:-Wno-sign-conversion>
    $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${GRU_WARNINGS_AS_ERRORS}>>:-Werror>
    $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${GRU_NATIVE}>>:-march=native>)
endfunction()

# For programs, tests and the code around a measurement: nothing in them is hot, so the compiler should not spend its time
# there. GCC leaves the upper halves of vector registers in use for whoever is called, unless it may make expensive
# optimizations.
function(gru_optimize_lightly target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>
                         $<$<AND:$<CONFIG:Release>,$<COMPILE_LANG_AND_ID:CXX,GNU>>:-fexpensive-optimizations>)
endfunction()

# gru_compile_together(target group files...): as one file, where GRU_UNITY says so. Most of our files are short, and each
# costs the compiler seconds for what it includes: Kokkos' and CLI11's headers three to five, JSON's and fmt's two.
function(gru_compile_together target group)
  if(GRU_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
    list(TRANSFORM ARGN PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/" OUTPUT_VARIABLE files)
    set_source_files_properties(${files} TARGET_DIRECTORY ${target} PROPERTIES UNITY_GROUP ${group})
  endif()
endfunction()

# gru_precompile(target headers...): compiles headers that nearly every file of the target includes only once. Kokkos' and
# CLI11's take the compiler three to four seconds each, more than most of our files.
function(gru_precompile target)
  if(GRU_PRECOMPILE)
    target_precompile_headers(${target} PRIVATE ${ARGN})
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "STATIC_LIBRARY")
      set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
      target_compile_options(${target} PRIVATE -fPIE)
    endif()
  endif()
endfunction()

# gru_share_precompiled(from targets...): programs take the headers that a static library of theirs has precompiled. It is
# must be compiled as position-independent as they are: gru_precompile sees to that.
function(gru_share_precompiled from)
  if(GRU_PRECOMPILE)
    foreach(target IN LISTS ARGN)
      target_precompile_headers(${target} REUSE_FROM ${from})
    endforeach()
  endif()
endfunction()

# gru_simd_sets(result): the instruction sets that SIMD sources are compiled for. A build for this machine alone
# (GRU_NATIVE) leaves out what a program says that this machine can't run: each takes the compiler a minute. Without that
# program's word all are in.
function(gru_simd_sets result)
  set(sets generic)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$")
    list(APPEND sets avx2 avx512)
    if(GRU_NATIVE AND NOT CMAKE_CROSSCOMPILING)
      if(NOT DEFINED GRU_MACHINE_RUNS)
        try_run(GRU_MACHINE_RUNS_RESULT GRU_MACHINE_RUNS_COMPILED SOURCE_FROM_CONTENT machine_runs.cpp [[
          #include <cstdio>
          #define RUNS(feature) static_cast<bool>(__builtin_cpu_supports(feature))
          int main() {
            const bool avx2 = RUNS("avx2") && RUNS("fma");
            const bool avx512 = avx2 && RUNS("avx512f") && RUNS("avx512dq") && RUNS("avx512bw") && RUNS("avx512vl");
            std::printf("generic%s%s", avx2 ? ";avx2" : "", avx512 ? ";avx512" : "");
          }
        ]] RUN_OUTPUT_STDOUT_VARIABLE said)
        set(GRU_MACHINE_RUNS "${said}" CACHE INTERNAL "Instruction sets of this machine")
      endif()
      if(GRU_MACHINE_RUNS MATCHES "^generic")
        set(sets ${GRU_MACHINE_RUNS})
      endif()
    endif()
  endif()
  set(${result} ${sets} PARENT_SCOPE)
endfunction()

# gru_add_simd_source(target file): compiles one Kokkos-free file once per instruction set of gru_simd_sets, each time with
# GRU_SIMD_NAMESPACE and GRU_SIMD_NAME (a string) set to generic, avx2 or avx512. The target's own files see
# GRU_WITHOUT_AVX2 and GRU_WITHOUT_AVX512 where x86-64 leaves one out.
# The file puts everything it defines into that namespace, or into an unnamed one, and includes no header with inline
# functions that another file may share: the linker keeps one copy of those, and it could be the one that this
# machine can't run. Kernels are one long inlined function each: debug builds optimise them and leave sanitizers out, as
# instrumenting every register of them takes the compiler minutes. Their tests put guards around every buffer.
function(gru_add_simd_source target file)
  set(generic "")
  set(avx2 -mavx2 -mfma -mf16c)
  set(avx512 -mavx2 -mfma -mavx512f -mavx512dq -mavx512bw -mavx512vl)
  gru_simd_sets(sets)
  foreach(isa IN ITEMS avx2 avx512)
    if(NOT isa IN_LIST sets)
      string(TOUPPER ${isa} missing)
      target_compile_definitions(${target} PRIVATE GRU_WITHOUT_${missing})
    endif()
  endforeach()
  get_filename_component(path "${file}" ABSOLUTE)
  get_filename_component(name "${file}" NAME_WE)
  foreach(isa IN LISTS sets)
    set(object ${target}_${name}_${isa})
    add_library(${object} OBJECT "${path}")
    set_target_properties(${object} PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
    target_compile_features(${object} PRIVATE cxx_std_20)
    target_include_directories(${object} PRIVATE "${PROJECT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/src")
    target_compile_definitions(${object} PRIVATE GRU_SIMD_NAMESPACE=${isa} "GRU_SIMD_NAME=\"${isa}\"")
    # ThreadSanitizer must see who writes what: in the kernels for any processor, which its preset runs.
    set(unsanitized -fno-sanitize=all)
    if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=thread" AND isa STREQUAL "generic")
      set(unsanitized "")
    endif()
    target_compile_options(${object} PRIVATE -Wall -Wextra -Wshadow $<$<CONFIG:Debug>:-O2> ${unsanitized}
                                             $<$<BOOL:${GRU_WARNINGS_AS_ERRORS}>:-Werror> ${${isa}})
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${object}>)
  endforeach()
endfunction()
