# SPDX-License-Identifier: Apache-2.0
# cmake -D KIND=installed|subdirectory ... -P run.cmake: configures, builds and runs one consumer. See CMakeLists.txt.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "failed (${status}): ${command}")
  endif()
endfunction()

file(REMOVE_RECURSE "${WORK_DIR}")
set(arguments -D "CMAKE_CXX_COMPILER=${CXX_COMPILER}" -D "CMAKE_CXX_FLAGS=${CXX_FLAGS}")
if(KIND STREQUAL "installed")
  # A prefix that is moved after the installation must serve as well.
  run("${CMAKE_COMMAND}" --install "${GRU_BINARY_DIR}" --prefix "${WORK_DIR}/first")
  file(RENAME "${WORK_DIR}/first" "${WORK_DIR}/prefix")
  # Nothing but Kokkos may be asked for: the private dependencies are not passed on. The package knows where its Kokkos is,
  # and passes by another one that fits any request less strict than its own.
  set(other "${WORK_DIR}/other/lib/cmake/Kokkos")
  file(WRITE "${other}/KokkosConfig.cmake" "add_library(Kokkos::kokkos INTERFACE IMPORTED)\nset(Kokkos_DEVICES SERIAL)\n")
  file(WRITE "${other}/KokkosConfigVersion.cmake" "set(PACKAGE_VERSION 5.9.9)\nset(PACKAGE_VERSION_COMPATIBLE TRUE)\n")
  list(APPEND arguments -D "CMAKE_PREFIX_PATH=${WORK_DIR}/prefix;${WORK_DIR}/other" -D CMAKE_BUILD_TYPE=Release)
  # The package must not lead back to the sources, the build, or what was fetched for it.
  file(GLOB package "${WORK_DIR}/prefix/${LIBDIR}/cmake/gru/*.cmake")
  foreach(file IN LISTS package)
    file(READ "${file}" text)
    foreach(word IN ITEMS "${GRU_SOURCE_DIR}/src" "${GRU_BINARY_DIR}" "${WORK_DIR}" "${DEPS_DIR}" fmt:: Eigen3:: nlohmann_json::)
      string(FIND "${text}" "${word}" at)
      if(NOT "${word}" STREQUAL "" AND NOT at EQUAL -1)
        message(FATAL_ERROR "${file} mentions ${word}")
      endif()
    endforeach()
  endforeach()
  # Nor may the installed program load anything from there. The loader itself says what it loads.
  if(EXISTS "${WORK_DIR}/prefix/bin/gru")
    execute_process(COMMAND "${CMAKE_COMMAND}" -E env LD_DEBUG=libs "LD_DEBUG_OUTPUT=${WORK_DIR}/loaded"
                            "${WORK_DIR}/prefix/bin/gru" info OUTPUT_QUIET RESULT_VARIABLE status)
    file(GLOB logs "${WORK_DIR}/loaded.*")
    if(NOT status EQUAL 0 OR NOT logs)
      message(FATAL_ERROR "the installed program failed (${status}), or its loader wrote no log")
    endif()
    foreach(log IN LISTS logs)
      file(STRINGS "${log}" loaded REGEX "calling init: ")
      foreach(folder IN ITEMS "${GRU_BINARY_DIR}/" "${DEPS_DIR}/" "${WORK_DIR}/first/")
        string(REPLACE "${WORK_DIR}/prefix/" "" others "${loaded}")
        string(FIND "${others}" "${folder}" at)
        if(NOT folder STREQUAL "/" AND NOT at EQUAL -1)
          message(FATAL_ERROR "the installed program loads from ${folder}: ${loaded}")
        endif()
      endforeach()
    endforeach()
  endif()
else()
  # Without optimisation, of the SIMD kernels too: this compiles the library a second time, only to see that it can be done.
  list(APPEND arguments -D "GRU_SOURCE_DIR=${GRU_SOURCE_DIR}" -D CMAKE_BUILD_TYPE=None -D GRU_UNITY=ON -D "GRU_NATIVE=${NATIVE}"
                        -D "GRU_ENABLE_CUDA=${CUDA}" -D "GRU_CUDA_ARCHITECTURES=${CUDA_ARCHITECTURES}"
                        -D "Kokkos_DIR=${Kokkos_DIR}" -D "Eigen3_DIR=${Eigen3_DIR}" -D "fmt_DIR=${fmt_DIR}"
                        -D "nlohmann_json_DIR=${nlohmann_json_DIR}")
endif()
if(KIND STREQUAL "installed")
  # A project that has taken another Kokkos already gets a refusal that says so, not two of them in one program.
  file(WRITE "${WORK_DIR}/late/CMakeLists.txt"
    "cmake_minimum_required(VERSION 3.25)\nproject(late LANGUAGES CXX)\nfind_package(Kokkos REQUIRED)\nfind_package(gru REQUIRED)\n")
  execute_process(COMMAND "${CMAKE_COMMAND}" -S "${WORK_DIR}/late" -B "${WORK_DIR}/late/build" -G "${GENERATOR}" ${arguments}
                          -D "Kokkos_DIR=${other}" RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " output "${output}")
  if(status EQUAL 0 OR NOT output MATCHES "this project has found Kokkos 5.9.9 before")
    message(FATAL_ERROR "gru was to refuse Kokkos 5.9.9, but (${status}): ${output}")
  endif()
endif()
run("${CMAKE_COMMAND}" -S "${SOURCE_DIR}" -B "${WORK_DIR}/build" -G "${GENERATOR}" ${arguments})
run("${CMAKE_COMMAND}" --build "${WORK_DIR}/build" --parallel 2)
run("${WORK_DIR}/build/consumer")
run("${WORK_DIR}/build/consumer_runtime")
