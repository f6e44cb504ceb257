# SPDX-License-Identifier: Apache-2.0
# cmake -DPROGRAM=... -P thread_counts.cmake: the program's output is the same at 1, 2 and 8 threads.
foreach(threads IN ITEMS 1 2 8)
  execute_process(
    COMMAND "${CMAKE_COMMAND}" -E env OMP_NUM_THREADS=${threads} OMP_PROC_BIND=false "${PROGRAM}"
    OUTPUT_VARIABLE output ERROR_VARIABLE errors RESULT_VARIABLE result)
  if(NOT result EQUAL 0 OR output STREQUAL "")
    message(FATAL_ERROR "${threads} threads: exit ${result}\n${output}${errors}")
  endif()
  if(NOT errors MATCHES "(^|\n)computing with ${threads} threads")
    message(FATAL_ERROR "asked for ${threads} threads, got: ${errors}")
  endif()
  if(DEFINED first AND NOT output STREQUAL first)
    message(FATAL_ERROR "1 thread:\n${first}\n${threads} threads:\n${output}")
  endif()
  set(first "${output}")
endforeach()
message("${first}")
