# SPDX-License-Identifier: Apache-2.0
# cmake -D ARCHITECTURE=89 [-D NVCC=...] -P check_cuda_resources.cmake: compiles every .cu under backends/cuda for one
# architecture and fails if the compiler reports a spill or a kernel with more static shared memory than a block of that
# architecture may have. Needs no device. What a kernel asks for dynamically stands in the sources' table, where
# static_asserts hold it against the same limit.
cmake_minimum_required(VERSION 3.25)
set(root "${CMAKE_CURRENT_LIST_DIR}/..")
set(limit_80 166912)  # bytes of shared memory a block may opt in to: 163 KB
set(limit_86 101376)  # 99 KB
set(limit_89 101376)
set(limit_90 232448)  # 227 KB
set(limit_120 101376)
string(REGEX REPLACE "[a-z]$" "" number "${ARCHITECTURE}")
set(limit "${limit_${number}}")
if(NOT limit)
  message(FATAL_ERROR "no limit is known for ARCHITECTURE '${ARCHITECTURE}'; known are 80, 86, 89, 90, 90a and 120")
endif()
find_program(NVCC nvcc HINTS ENV CUDACXX PATHS /usr/local/cuda/bin REQUIRED)

file(GLOB_RECURSE sources "${root}/backends/cuda/*.cu")
set(kernels 0)
set(failures "")
foreach(source IN LISTS sources)
  cmake_path(RELATIVE_PATH source BASE_DIRECTORY "${root}" OUTPUT_VARIABLE name)
  execute_process(
    COMMAND "${NVCC}" -std=c++20 -O3 -DNDEBUG -DGRU_ENABLE_CUDA=1 -arch=sm_${ARCHITECTURE} -cubin -Xptxas -v
            -I "${root}" -I "${root}/src" -o /dev/null "${source}"
    RESULT_VARIABLE status OUTPUT_VARIABLE report ERROR_VARIABLE report)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${name} does not compile for sm_${ARCHITECTURE}:\n${report}")
  endif()
  string(REPLACE ";" "," report "${report}")
  string(REPLACE "\n" ";" report "${report}")
  foreach(line IN LISTS report)
    if(line MATCHES "Function properties for (.*)|Compiling entry function '(.*)' for")
      set(kernel "${CMAKE_MATCH_1}${CMAKE_MATCH_2}")
    elseif(line MATCHES "([0-9]+) bytes spill stores, ([0-9]+) bytes spill loads")
      if(CMAKE_MATCH_1 GREATER 0 OR CMAKE_MATCH_2 GREATER 0)
        list(APPEND failures "${name}: ${kernel} spills (${CMAKE_MATCH_1} bytes stored, ${CMAKE_MATCH_2} loaded)")
      endif()
    elseif(line MATCHES "Used ([0-9]+) registers")
      math(EXPR kernels "${kernels} + 1")
      set(registers "${CMAKE_MATCH_1}")
      set(smem 0)
      if(line MATCHES "([0-9]+) bytes smem")
        set(smem "${CMAKE_MATCH_1}")
      endif()
      message(STATUS "${registers} registers, ${smem} bytes of static shared memory: ${kernel}")
      if(smem GREATER limit)
        list(APPEND failures "${name}: ${kernel} has ${smem} bytes of static shared memory, a block may have ${limit}")
      endif()
    endif()
  endforeach()
endforeach()
foreach(failure IN LISTS failures)
  message(SEND_ERROR " ${failure}")
endforeach()
list(LENGTH sources files)
if(kernels EQUAL 0)
  message(SEND_ERROR " the compiler reported no kernel at all")
endif()
message(STATUS "sm_${ARCHITECTURE}: ${kernels} kernels in ${files} files")
