# SPDX-License-Identifier: Apache-2.0
# gru/version.hpp (installed) and the commit that a build was made from (compiled in, looked up at each build).
include_guard(GLOBAL)

function(gru_add_version target)
  if(GRU_ENABLE_CUDA)
    set(GRU_CUDA_ENABLED_LITERAL true)
  else()
    set(GRU_CUDA_ENABLED_LITERAL false)
  endif()
  configure_file("${PROJECT_SOURCE_DIR}/cmake/version.hpp.in" "${PROJECT_BINARY_DIR}/include/gru/version.hpp" @ONLY)
  set(commit_source "${PROJECT_BINARY_DIR}/commit.cpp")
  add_custom_target(${target}_commit
    COMMAND "${CMAKE_COMMAND}" -D "SOURCE_DIR=${PROJECT_SOURCE_DIR}" -D "OUTPUT=${commit_source}"
            -P "${PROJECT_SOURCE_DIR}/cmake/write_commit.cmake"
    BYPRODUCTS "${commit_source}"
    COMMENT "Recording the commit"
    VERBATIM)
  add_dependencies(${target} ${target}_commit)
  target_sources(${target} PRIVATE "${commit_source}"
                           PUBLIC FILE_SET generated_headers TYPE HEADERS BASE_DIRS "${PROJECT_BINARY_DIR}/include"
                                  FILES "${PROJECT_BINARY_DIR}/include/gru/version.hpp")
endfunction()
