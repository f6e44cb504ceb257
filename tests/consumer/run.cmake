# cmake -D KIND=installed|subdirectory ... -P run.cmake: configures, builds and runs one consumer. See CMakeLists.txt.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "failed (${status}): ${command}")
  endif()
endfunction()

file(REMOVE_RECURSE "${WORK_DIR}")
set(arguments -D "CMAKE_CXX_COMPILER=${CXX_COMPILER}" -D "CMAKE_CXX_FLAGS=${CXX_FLAGS}" -D "Kokkos_DIR=${Kokkos_DIR}")
if(KIND STREQUAL "installed")
  run("${CMAKE_COMMAND}" --install "${GRU_BINARY_DIR}" --prefix "${WORK_DIR}/prefix")
  # Nothing but Kokkos may be asked for: the private dependencies are not passed on.
  list(APPEND arguments -D "CMAKE_PREFIX_PATH=${WORK_DIR}/prefix" -D CMAKE_BUILD_TYPE=Release)
  # The package must not lead back to the sources or the build.
  file(GLOB_RECURSE package "${WORK_DIR}/prefix/*.cmake")
  foreach(file IN LISTS package)
    file(READ "${file}" text)
    foreach(word IN ITEMS "${GRU_SOURCE_DIR}/src" "${GRU_BINARY_DIR}" fmt:: Eigen3:: nlohmann_json::)
      string(FIND "${text}" "${word}" at)
      if(NOT at EQUAL -1)
        message(FATAL_ERROR "${file} mentions ${word}")
      endif()
    endforeach()
  endforeach()
else()
  # Without optimisation: this compiles the library a second time, only to see that it can be done.
  list(APPEND arguments -D "GRU_SOURCE_DIR=${GRU_SOURCE_DIR}" -D CMAKE_BUILD_TYPE=Debug
                        -D "GRU_ENABLE_CUDA=${CUDA}" -D "GRU_CUDA_ARCHITECTURES=${CUDA_ARCHITECTURES}"
                        -D "Eigen3_DIR=${Eigen3_DIR}" -D "fmt_DIR=${fmt_DIR}"
                        -D "nlohmann_json_DIR=${nlohmann_json_DIR}")
endif()
run("${CMAKE_COMMAND}" -S "${SOURCE_DIR}" -B "${WORK_DIR}/build" -G "${GENERATOR}" ${arguments})
run("${CMAKE_COMMAND}" --build "${WORK_DIR}/build" --parallel 2)
run("${WORK_DIR}/build/consumer")
