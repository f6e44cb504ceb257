# SPDX-License-Identifier: Apache-2.0
# The target `docs`: the API reference of the installed headers by Doxygen. An undocumented public member is an error.
include_guard(GLOBAL)
find_program(GRU_DOXYGEN doxygen DOC "Doxygen, for the target docs")
mark_as_advanced(GRU_DOXYGEN)
if(GRU_DOXYGEN)
  configure_file("${PROJECT_SOURCE_DIR}/docs/Doxyfile.in" "${PROJECT_BINARY_DIR}/Doxyfile" @ONLY)
  add_custom_target(docs COMMAND "${GRU_DOXYGEN}" "${PROJECT_BINARY_DIR}/Doxyfile"
                         COMMAND "${CMAKE_COMMAND}" -E echo "API reference: ${PROJECT_BINARY_DIR}/docs/html/index.html"
                         WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}" VERBATIM)
else()
  add_custom_target(docs COMMAND "${CMAKE_COMMAND}" -E echo "docs needs doxygen; install it and configure again"
                         COMMAND "${CMAKE_COMMAND}" -E false VERBATIM)
endif()
